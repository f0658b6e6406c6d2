/* Starts a command on given cores, in a session of its own, to be killed when whoever started us dies.
 *
 * usage: leash CORE[,CORE…] COMMAND [ARGUMENT…]
 *
 * A session, because its number names all processes of a server, also those that it starts for each
 * connection: the load generator adds up their CPU time, and the benchmark ends them together.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: leash CORE[,CORE...] COMMAND [ARGUMENT...]\n");
        return 64;
    }
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (char *rest = argv[1]; *rest;) {
        CPU_SET((int)strtol(rest, &rest, 10), &cores);
        if (*rest) rest++; /* the comma */
    }
    if (sched_setaffinity(0, sizeof cores, &cores)) perror("leash: sched_setaffinity");
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
