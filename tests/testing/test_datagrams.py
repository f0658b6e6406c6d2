"""Tests of the datagram port in memory: it does what a real one does."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import InvalidAddressError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from echosvc.protocols import DatagramEcho, find
from echosvc.testing import MemoryDatagramPort
from echosvc.testing._datagrams import MemoryMessages
from echosvc.transports import DatagramBatch, IDatagramBatchProtocol, Peer

ONE, TWO = ("192.0.2.1", 1025), ("2001:db8::2", 1026)


class Recorder(DatagramProtocol):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def startProtocol(self) -> None:
        """Remember the beginning."""
        self.told.append("start")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Remember a datagram."""
        self.told.append((datagram, addr))

    def stopProtocol(self) -> None:
        """Remember the end."""
        self.told.append("stop")


@implementer(IDatagramBatchProtocol)
class BatchRecorder(Recorder):
    """Remembers batches."""

    batch: DatagramBatch

    def batch_received(self, batch: DatagramBatch) -> None:
        """Remember it, and for longer than one may."""
        self.batch = batch
        self.told.append([(bytes(payload), source) for payload, source in batch])


class DeliveringTests(SynchronousTestCase):
    """What a test delivers."""

    def test_a_datagram(self) -> None:
        """The source is an address that remembers the way back, as on a real port."""
        recorder = Recorder()
        port = MemoryDatagramPort(recorder)
        source = port.deliver(b"hello", ONE)

        self.assertEqual(recorder.told, ["start", (b"hello", ONE)])
        self.assertIsInstance(source, Peer)
        self.assertIs(recorder.told[1][1], source)
        self.assertIs(port.deliver(b"again", source), source)

    def test_a_batch_to_who_knows_batches(self) -> None:
        """No more than 64 at once, and good no longer than the call."""
        recorder = BatchRecorder()
        sources = MemoryDatagramPort(recorder).deliver_batch([(b"%d" % n, ONE) for n in range(65)])

        self.assertEqual([len(batch) for batch in recorder.told[1:]], [64, 1])
        self.assertIs(recorder.told[2][0][1], sources[64])
        self.assertRaisesRegex(RuntimeError, "the batch is over", recorder.batch.send_back)

    def test_a_batch_can_be_changed_in_place(self) -> None:
        """As in a kernel's buffers; what is sent back is what it then is."""

        @implementer(IDatagramBatchProtocol)
        class Changing(DatagramProtocol):
            def batch_received(self, batch: DatagramBatch) -> None:
                for payload, _ in batch:
                    payload[:1] = b"X"
                batch.send_back()

        port = MemoryDatagramPort(Changing())
        port.deliver_batch([(b"abc", ONE)])

        self.assertEqual(port.take(), [(b"Xbc", ONE)])

    def test_a_batch_to_who_does_not(self) -> None:
        """One by one, until the protocol closes the port."""
        recorder = Recorder()
        port = MemoryDatagramPort(recorder)
        port.deliver_batch([(b"1", ONE), (b"", TWO)])
        self.assertEqual(recorder.told, ["start", (b"1", ONE), (b"", TWO)])
        told: list[bytes] = []

        def close(datagram: bytes, _: object) -> None:
            told.append(datagram)
            port.stopListening()

        self.patch(recorder, "datagramReceived", close)
        port.deliver_batch([(b"1", ONE), (b"", TWO)])

        self.assertEqual(told, [b"1"])

    def test_what_a_protocol_raises_is_logged(self) -> None:
        """And the port lives on."""

        def fail(*_: object) -> None:
            raise RuntimeError("bug")

        recorder = Recorder()
        self.patch(recorder, "datagramReceived", fail)
        port = MemoryDatagramPort(recorder)
        port.deliver(b"1")
        port.deliver_batch([(b"2", ONE)])

        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_from_a_unix_socket(self) -> None:
        """The source is a path, or nothing."""
        recorder = Recorder()
        port = MemoryDatagramPort(recorder)
        port.deliver(b"x", "/run/client")
        port.deliver(b"y", None)

        self.assertEqual(recorder.told[1:], [(b"x", "/run/client"), (b"y", None)])

    def test_what_cannot_be_delivered(self) -> None:
        """The message says how it is done."""
        port = MemoryDatagramPort(Recorder())
        with self.assertRaisesRegex(TypeError, r"deliver\(\) takes bytes, not str; write b'…'"):
            port.deliver("text")  # type: ignore[arg-type]  # the point
        with self.assertRaisesRegex(ValueError, "no datagram has 65508 bytes; 65507 are the most"):
            port.deliver(bytes(65508))
        with self.assertRaisesRegex(ValueError, r"takes a sender such as \('192.0.2.1', 1025\)"):
            port.deliver_batch([(b"x", ("localhost", 7))])
        port.stopListening()
        with self.assertRaisesRegex(ValueError, r"deliver\(\) after stopListening\(\)"):
            port.deliver(b"x")


class WritingTests(SynchronousTestCase):
    """What a protocol sends."""

    def setUp(self) -> None:
        """Open a port."""
        self.port = MemoryDatagramPort(Recorder())

    def test_is_remembered_until_it_is_taken(self) -> None:
        """In order, with the address it was written to."""
        self.port.write(b"one", ONE)
        self.port.write(bytearray(), "/run/client")  # type: ignore[arg-type]  # as good as bytes

        self.assertEqual(self.port.sent, [(b"one", ONE), (b"", "/run/client")])
        self.assertEqual(self.port.take(), [(b"one", ONE), (b"", "/run/client")])
        self.assertEqual(self.port.take(), [])

    def test_what_no_kernel_would_send_is_counted(self) -> None:
        """As on a real port: nothing is raised."""
        self.port.write(bytes(65508), ONE)
        self.port.write(b"to nobody")

        self.assertEqual(self.port.drops, {"send-EMSGSIZE": 1, "send-ENOTCONN": 1})
        self.assertEqual(self.port.sent, [])

    def test_what_is_wrong_is_raised(self) -> None:
        """A name is no address, text is no bytes."""
        self.assertRaises(InvalidAddressError, self.port.write, b"x", ("localhost", 7))
        self.assertRaises(InvalidAddressError, self.port.connect, "localhost", 7)
        self.assertRaisesRegex(TypeError, r"write\(\) takes bytes, not str", self.port.write, "x", ONE)

    def test_a_connected_port_needs_no_address(self) -> None:
        """It has one."""
        self.port.connect(*ONE)
        self.port.write(b"x")

        self.assertEqual(self.port.sent, [(b"x", ONE)])

    def test_a_closed_port_sends_nothing(self) -> None:
        """Its protocol has no transport any more, but may have kept one."""
        self.port.stopListening()
        self.port.stopListening()
        self.port.write(b"x", ONE)

        self.assertEqual(self.port.sent, [])
        self.assertEqual(self.port.protocol.told, ["start", "stop"])

    def test_is_what_it_says(self) -> None:
        """It has what Twisted's interface asks for."""
        verifyObject(IUDPTransport, self.port)
        self.port.setBroadcastAllowed(True)
        self.assertTrue(self.port.getBroadcastAllowed())
        self.assertEqual(self.port.getHost().type, "UDP")


class ServingTests(SynchronousTestCase):
    """What is served."""

    def test_a_wire_protocol(self) -> None:
        """An echo, for example, of a batch, too."""
        port = MemoryDatagramPort(find("echo"))
        port.deliver(b"hello", ONE)
        port.deliver_batch([(b"1", ONE), (b"2", TWO)])

        self.assertEqual(port.take(), [(b"hello", ONE), (b"1", ONE), (b"2", TWO)])

    def test_on_a_clock(self) -> None:
        """Of its own, or one that it is given."""
        clock = Clock()

        self.assertIs(MemoryDatagramPort(DatagramEcho(), clock=clock).clock, clock)
        self.assertIsInstance(MemoryDatagramPort(DatagramEcho()).clock, Clock)

    def test_is_used_wrongly(self) -> None:
        """A class is no protocol."""
        with self.assertRaisesRegex(TypeError, "a WireProtocol or a DatagramProtocol, not <class"):
            MemoryDatagramPort(DatagramEcho)  # type: ignore[arg-type]  # the point

    def test_messages_are_messages(self) -> None:
        """They tell whom they came from, as a screen asks; nobody knows the address of a UNIX socket."""
        messages = MemoryMessages([(b"one", ONE), (b"", "/run/client")], lambda *_: None)

        self.assertEqual(messages.receive(), 2)
        self.assertEqual((messages.envelopes(), messages.lengths), ([ONE, "/run/client"], [3, 0]))
        self.assertEqual(messages.arrival(ONE).port, ONE[1])
