/* The load generator: says the same things to every server and reads the server's CPU clock while it does.
 *
 * usage: load MODE name=value…            prints one line of JSON
 *
 *   tcp     connections that each keep one message in flight
 *   churn   workers that connect, echo one message, close, and begin again
 *   udp     flows that each keep `window` datagrams in flight
 *   idle    opens `connections`, echoes once on each, prints how many it holds, waits for standard input to end
 *
 * In C and in threads, because a generator that costs more than the server measures itself. The threads poll
 * and never sleep: waking them would be work of the server's send, several microseconds in a virtual machine,
 * more for a slow server than for a fast one, and no server on a real network pays for its clients' wake-ups.
 * The one exception is `sleeps`, which bench/works.py explains.
 */
#define _GNU_SOURCE
#include "load.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Atomic int phase = WARMING;
struct options options = {.size = 64, .connections = 1, .threads = 1, .window = 1, .segments = 1, .gro = 0,
                          .warmup = 0.3, .seconds = 1};

static void take(const char *argument) {
    const struct { const char *name; int *number; double *real; } known[] = {
        {"port", &options.port, NULL}, {"size", &options.size, NULL},
        {"connections", &options.connections, NULL}, {"threads", &options.threads, NULL},
        {"window", &options.window, NULL}, {"sleeps", &options.sleeps, NULL},
        {"segments", &options.segments, NULL},
        {"gro", &options.gro, NULL}, {"session", &options.session, NULL},
        {"warmup", NULL, &options.warmup}, {"seconds", NULL, &options.seconds},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t length = strlen(known[i].name);
        if (strncmp(argument, known[i].name, length) || argument[length] != '=') continue;
        if (known[i].number) *known[i].number = atoi(argument + length + 1);
        else *known[i].real = atof(argument + length + 1);
        return;
    }
    fprintf(stderr, "load: %s: not an option\n", argument);
    exit(64);
}

static void rest(double seconds) {
    struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&pause, &pause)) {}
}

static uint64_t own_cpu(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* Gives every thread a core of its own: two that poll on the same one would take turns of milliseconds. */
static void spread(pthread_t thread, int number) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    number %= CPU_COUNT(&allowed);
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, &allowed) || number-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(core, &one);
        pthread_setaffinity_np(thread, sizeof one, &one);
        return;
    }
}

/* Runs at most so many threads and adds up what they counted while MEASURING. */
static void drive(void *(*run)(void *), int most) {
    int threads = options.threads = options.threads < most ? options.threads : most;
    struct tally *tallies = aligned_alloc(64, sizeof *tallies * (size_t)threads), sum = {0};
    pthread_t ids[threads];
    if (!tallies) fail("aligned_alloc");
    memset(tallies, 0, sizeof *tallies * (size_t)threads);
    for (int i = 0; i < threads; i++) {
        if (pthread_create(&ids[i], NULL, run, &tallies[i])) fail("pthread_create");
        spread(ids[i], i);
    }

    rest(options.warmup);
    uint64_t server = session_cpu(options.session), load = own_cpu(), began = now();
    phase = MEASURING;
    rest(options.seconds);
    phase = OVER; /* from here on the server has nothing to do but what is in flight */
    uint64_t nanoseconds = now() - began;
    load = own_cpu() - load;
    server = session_cpu(options.session) - server;

    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        sum.echoes += tallies[i].echoes;
        sum.errors += tallies[i].errors;
        sum.lost += tallies[i].lost;
        for (size_t b = 0; b < BUCKETS; b++) sum.histogram[b] += tallies[i].histogram[b];
    }
    printf("{\"echoes\": %lu, \"errors\": %lu, \"lost\": %lu, \"seconds\": %.9f, \"server_cpu\": %.9f, "
           "\"load_cpu\": %.9f, \"p50\": %.9f, \"p99\": %.9f}\n",
           sum.echoes, sum.errors, sum.lost, (double)nanoseconds / 1e9, (double)server / 1e9,
           (double)load / 1e9, percentile(&sum, .50) / 1e9, percentile(&sum, .99) / 1e9);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    for (int i = 2; i < argc; i++) take(argv[i]);
    signal(SIGPIPE, SIG_IGN);
    make_pattern((size_t)options.size);
    if (!strcmp(mode, "tcp")) {
        tcp_open();
        drive(tcp_thread, options.connections);
    } else if (!strcmp(mode, "churn")) {
        drive(churn_thread, options.connections);
    } else if (!strcmp(mode, "udp")) {
        udp_open();
        drive(udp_thread, options.connections == 1 ? 2 : options.connections);
    } else if (!strcmp(mode, "idle")) {
        idle();
    } else {
        fprintf(stderr, "usage: load tcp|churn|udp|idle name=value...\n");
        return 64;
    }
    return 0;
}
