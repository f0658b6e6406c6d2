/* Clocks, the histogram, the pattern, and the CPU time of the server. */
#define _GNU_SOURCE
#include "load.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

void fail(const char *what) {
    fprintf(stderr, "load: ");
    perror(what);
    exit(1);
}

/* The bucket's number is the value's exponent followed by its STEP_BITS bits after the leading one. */
static size_t bucket(uint64_t value) {
    if (value < (1u << STEP_BITS)) return value;
    unsigned shift = 63 - STEP_BITS - (unsigned)__builtin_clzll(value);
    return ((size_t)(shift + 1) << STEP_BITS) + (value >> shift) - (1u << STEP_BITS);
}

static double lower_edge(size_t bucket) {
    size_t exponent = bucket >> STEP_BITS, step = bucket & ((1u << STEP_BITS) - 1);
    if (!exponent) return (double)step;
    return (double)((uint64_t)((1u << STEP_BITS) + step) << (exponent - 1));
}

void count(struct tally *tally, uint64_t nanoseconds) {
    tally->echoes++;
    tally->histogram[bucket(nanoseconds)]++;
}

double percentile(const struct tally *tally, double share) {
    double rank = share * (double)tally->echoes;
    for (size_t i = 0; i < BUCKETS - 1; i++) {
        double here = (double)tally->histogram[i];
        if (here > 0 && rank <= here)
            return lower_edge(i) + (lower_edge(i + 1) - lower_edge(i)) * rank / here;
        rank -= here;
    }
    return 0;
}

const char *pattern;

void make_pattern(size_t size) {
    char *bytes = malloc(size + PERIOD);
    if (!bytes) fail("malloc");
    for (size_t i = 0; i < size + PERIOD; i++) bytes[i] = (char)(i % PERIOD);
    pattern = bytes;
}

/* Every byte of a small piece; of a large one 64 in each 4096 and the last 64, so that checking stays cheap. */
int differs(const char *got, size_t n, const char *wanted) {
    if (n <= 4096) return memcmp(got, wanted, n) != 0;
    for (size_t i = 0; i + 64 <= n; i += 4096)
        if (memcmp(got + i, wanted + i, 64)) return 1;
    return memcmp(got + n - 64, wanted + n - 64, 64) != 0;
}

/* A process's CPU clock counts nanoseconds and covers all its threads; anyone may read it. What its finished
 * children used is in /proc alone, in ticks: exact enough for servers that fork, which need most CPU anyway. */
static uint64_t process_cpu(pid_t pid, unsigned long children_ticks) {
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &used)) return 0;
    uint64_t tick = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec + children_ticks * tick;
}

uint64_t session_cpu(pid_t wanted) {
    uint64_t sum = 0;
    DIR *processes = opendir("/proc");
    if (!processes) fail("/proc");
    for (struct dirent *entry; (entry = readdir(processes));) {
        char path[300], line[1024];
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file) continue; /* it has just ended */
        size_t n = fread(line, 1, sizeof line - 1, file);
        fclose(file);
        line[n] = 0;
        /* proc_pid_stat(5): after the name in brackets come state, ppid, pgrp, session (6th field), …,
         * cutime (16th), cstime (17th). The name may hold anything, so start at the last bracket. */
        char *fields = strrchr(line, ')');
        int session;
        unsigned long user, system;
        if (fields && sscanf(fields + 1,
                             " %*c %*d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lu %lu",
                             &session, &user, &system) == 3 && session == wanted)
            sum += process_cpu(atoi(entry->d_name), user + system);
    }
    closedir(processes);
    return sum;
}
