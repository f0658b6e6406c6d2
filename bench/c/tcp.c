/* The three kinds of TCP load: messages to and fro, connections that come and go, connections that just are. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE (256 * 1024)
#define EVENTS 256

struct connection {
    int fd;
    size_t sent, received; /* of the present message */
    uint64_t began, number;
};

static struct connection *all;
static _Atomic int next_thread;

int dial(uint32_t source) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
    struct timeval patience = {.tv_sec = 10};
    int one = 1, segment = 1448, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    /* As on an Ethernet. Loopback's own 65 483 bytes are half a receive window, and the silly-window rules then
     * stop a large message for the 40 ms of a delayed acknowledgement, or not, as luck will have it. */
    setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (source != INADDR_LOOPBACK) {
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&here, sizeof here)) goto failed;
    }
    if (!connect(fd, (struct sockaddr *)&there, sizeof there)) return fd;
failed:
    close(fd);
    return -1;
}

static int echoed(int fd, size_t size) {
    char got[4096];
    if (size > sizeof got) size = sizeof got;
    return send(fd, pattern, size, 0) == (ssize_t)size &&
           recv(fd, got, size, MSG_WAITALL) == (ssize_t)size && !differs(got, size, pattern);
}

void echo_once(int fd, int size) {
    if (!echoed(fd, (size_t)size)) fail("first echo");
}

void tcp_open(void) {
    if (!(all = calloc((size_t)options.connections, sizeof *all))) fail("calloc");
    for (int i = 0; i < options.connections; i++) {
        if ((all[i].fd = dial(INADDR_LOOPBACK)) < 0) fail("connect");
        echo_once(all[i].fd, 64); /* one after the other, so that no server's backlog overflows */
        fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
    }
}

/* Sends what the kernel takes of the present message. False: the connection is gone. */
static int push(struct connection *c) {
    while (c->sent < (size_t)options.size) {
        ssize_t n = send(c->fd, pattern + c->number % PERIOD + c->sent, (size_t)options.size - c->sent, 0);
        if (n < 0) return errno == EAGAIN;
        c->sent += (size_t)n;
    }
    return 1;
}

static int begin(struct connection *c) {
    c->number++;
    c->sent = c->received = 0;
    c->began = now();
    return push(c);
}

/* Reads until the message is whole or the socket empty; one recv for a small message, because a read that ends
 * the message cannot have left anything behind. False: the connection is gone or its bytes are wrong. */
static int pull(struct connection *c, char *buffer, struct tally *tally) {
    for (;;) {
        size_t wanted = (size_t)options.size - c->received;
        if (wanted > READ_SIZE) wanted = READ_SIZE;
        ssize_t n = recv(c->fd, buffer, wanted, 0);
        if (n < 0 && errno == EAGAIN) return 1;
        if (n <= 0 || differs(buffer, (size_t)n, pattern + c->number % PERIOD + c->received)) return 0;
        c->received += (size_t)n;
        if (c->received == (size_t)options.size) {
            if (phase == MEASURING) count(tally, now() - c->began);
            return phase == OVER || begin(c);
        }
    }
}

void *tcp_thread(void *argument) {
    struct tally *tally = argument;
    struct epoll_event events[EVENTS];
    char *buffer = malloc(READ_SIZE);
    int hub = epoll_create1(EPOLL_CLOEXEC);
    if (!buffer || hub < 0) fail("thread");
    for (int i = next_thread++; i < options.connections; i += options.threads) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &all[i]};
        if (epoll_ctl(hub, EPOLL_CTL_ADD, all[i].fd, &event)) fail("epoll_ctl");
        if (!begin(&all[i])) fail("send");
    }
    while (phase != OVER) {
        int n = epoll_wait(hub, events, EVENTS, options.sleeps ? 50 : 0);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!push(c) || !pull(c, buffer, tally)) {
                tally->errors++;
                close(c->fd);
            }
        }
    }
    return NULL;
}

/* --- connect, echo, close ------------------------------------------------------------------------------- */

/* TIME_WAIT keeps a pair of address and port for a second even on loopback; 28 000 ports per address would
 * limit the rate, so the workers come from many addresses. */
#define SOURCES 64

static int enter(struct connection *c) {
    c->began = now();
    c->received = 0;
    c->fd = dial(INADDR_LOOPBACK + 1 + (uint32_t)(c->number++ * 2654435761u >> 16) % SOURCES);
    if (c->fd < 0) return 0;
    c->sent = 0;
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    return push(c);
}

void *churn_thread(void *argument) {
    struct tally *tally = argument;
    struct epoll_event events[EVENTS];
    char *buffer = malloc(READ_SIZE);
    int first = next_thread++, hub = epoll_create1(EPOLL_CLOEXEC);
    struct connection *workers = calloc((size_t)options.connections, sizeof *workers);
    if (!buffer || !workers || hub < 0) fail("thread");
    for (int i = first; i < options.connections; i += options.threads) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &workers[i]};
        workers[i].number = (uint64_t)i;
        if (!enter(&workers[i]) || epoll_ctl(hub, EPOLL_CTL_ADD, workers[i].fd, &event)) fail("connect");
    }
    while (phase != OVER) {
        int n = epoll_wait(hub, events, EVENTS, 0);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            ssize_t got = recv(c->fd, buffer, READ_SIZE, 0);
            int wrong = got <= 0 || c->received + (size_t)got > (size_t)options.size ||
                        differs(buffer, (size_t)got, pattern + c->number % PERIOD + c->received);
            c->received += wrong ? 0 : (size_t)got;
            if (!wrong && c->received < (size_t)options.size) continue;
            close(c->fd);
            if (wrong) tally->errors++;
            else if (phase == MEASURING) count(tally, now() - c->began);
            struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
            if (!enter(c) || epoll_ctl(hub, EPOLL_CTL_ADD, c->fd, &event)) {
                tally->errors++; /* this worker retires; the errors show it */
                if (c->fd >= 0) close(c->fd);
            }
        }
    }
    return NULL;
}

/* --- connections that just are -------------------------------------------------------------------------- */

/* The first hundred come and are reported by themselves: whatever a server builds only once, it has built then. */
#define FIRST 100

void idle(void) {
    struct rlimit files;
    int open = 0;
    if (!getrlimit(RLIMIT_NOFILE, &files) && options.connections > (int)files.rlim_cur - 32)
        options.connections = (int)files.rlim_cur - 32;
    for (; open < options.connections; open++) {
        if (open == FIRST) {
            printf("{\"connections\": %d}\n", open);
            fflush(stdout);
            if (getchar() == EOF) return;
        }
        int fd = dial(INADDR_LOOPBACK);
        if (fd < 0 || !echoed(fd, (size_t)options.size)) break; /* the server has had enough */
    }
    printf("{\"connections\": %d}\n", open);
    fflush(stdout);
    while (getchar() != EOF) {}
}
