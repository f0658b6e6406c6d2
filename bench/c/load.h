/* What the modes of the load generator share. A mode opens its sockets, runs threads that look at `phase`,
 * and counts into one tally per thread; load.c keeps the time, reads the server's CPU and prints the sums. */
#ifndef LOAD_H
#define LOAD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum phase { WARMING, MEASURING, OVER };
extern _Atomic int phase;

struct options {
    int port;
    int size;        /* bytes per message or datagram */
    int connections; /* connections, flows, or workers that connect and close */
    int threads;
    int window;      /* datagrams in flight per flow */
    int sleeps;      /* whether a thread sleeps while nothing arrives */
    int segments;    /* datagrams per send; 1: no segmentation */
    int gro;         /* whether flows take coalesced datagrams */
    double warmup;   /* seconds */
    double seconds;
    pid_t session;   /* of the server: its CPU is what all processes of this session use */
};
extern struct options options;

/* 64 linear steps in every power of two: a percentile is within 1.6 % before interpolation. */
#define STEP_BITS 6
#define BUCKETS ((64 - STEP_BITS + 1) << STEP_BITS)

struct tally {
    uint64_t echoes, errors, lost;
    uint64_t histogram[BUCKETS]; /* of nanoseconds from a message's first byte out to its last byte in */
} __attribute__((aligned(64)));

uint64_t now(void); /* nanoseconds, monotonic */
void fail(const char *what) __attribute__((noreturn));
void count(struct tally *tally, uint64_t nanoseconds);
double percentile(const struct tally *tally, double share);

/* Message number k is `size` bytes of this from k % PERIOD on: every message looks different, nothing needs to
 * be written before sending, and since PERIOD is prime, pieces that are swapped or missing show up. */
#define PERIOD 251
extern const char *pattern;
void make_pattern(size_t size);
int differs(const char *got, size_t n, const char *wanted);

uint64_t session_cpu(pid_t session); /* nanoseconds on a CPU, user and system, all threads and children */

int dial(uint32_t source);                     /* connects a blocking TCP socket */
void echo_once(int fd, int size);              /* on a blocking socket; ends the program if it fails */
void *tcp_thread(void *tally), *churn_thread(void *tally), *udp_thread(void *tally);
void tcp_open(void), udp_open(void), idle(void);

#endif
