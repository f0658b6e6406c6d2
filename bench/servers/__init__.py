"""The rivals that are written in Python. Each is a module that prints ``port N`` and serves until killed."""
