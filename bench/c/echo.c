/* The yardstick: an echo server for TCP and UDP as one writes it in C with epoll.
 *
 * usage: echo        prints "port N" (one number, TCP and UDP, 127.0.0.1) and serves until it is killed
 *
 * One thread, level-triggered epoll, one recv and one send per TCP event, one recvfrom and one sendto per
 * datagram: what a good C programmer does without further tricks, and what the word "C" means in every table.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64      /* datagrams before TCP has its turn again */
#define PIECE 65536   /* bytes per read; also more than any datagram */

/* A connection. `rest` exists while the peer does not take what it was sent: then nothing more is read. */
struct peer {
    int fd;
    char *rest;
    size_t from, to;
};

static int hub;
static char piece[PIECE];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int bound(int type, uint16_t port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    if (bind(fd, (struct sockaddr *)&here, sizeof here)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void watch(int how, int fd, uint32_t events, void *what) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    if (epoll_ctl(hub, how, fd, &event)) fail("epoll_ctl");
}

static void end(struct peer *peer) {
    close(peer->fd);
    free(peer->rest);
    free(peer);
}

static void welcome(int listener) {
    for (;;) {
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct peer *peer = calloc(1, sizeof *peer);
        if (!peer) fail("calloc");
        peer->fd = fd;
        watch(EPOLL_CTL_ADD, fd, EPOLLIN, peer);
    }
}

static void serve(struct peer *peer) {
    if (!peer->rest) {
        ssize_t got = recv(peer->fd, piece, sizeof piece, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            end(peer);
            return;
        }
        ssize_t put = send(peer->fd, piece, (size_t)got, MSG_NOSIGNAL);
        if (put == got) return;
        if (put < 0) {
            if (errno != EAGAIN) {
                end(peer);
                return;
            }
            put = 0;
        }
        peer->from = 0;
        peer->to = (size_t)(got - put);
        if (!(peer->rest = malloc(peer->to))) fail("malloc");
        memcpy(peer->rest, piece + put, peer->to);
        watch(EPOLL_CTL_MOD, peer->fd, EPOLLOUT, peer);
        return;
    }
    ssize_t put = send(peer->fd, peer->rest + peer->from, peer->to - peer->from, MSG_NOSIGNAL);
    if (put < 0) {
        if (errno != EAGAIN) end(peer);
        return;
    }
    if ((peer->from += (size_t)put) < peer->to) return;
    free(peer->rest);
    peer->rest = NULL;
    watch(EPOLL_CTL_MOD, peer->fd, EPOLLIN, peer);
}

static void answer(int datagrams) {
    for (int i = 0; i < BATCH; i++) {
        struct sockaddr_storage peer;
        socklen_t length = sizeof peer;
        ssize_t got = recvfrom(datagrams, piece, sizeof piece, 0, (struct sockaddr *)&peer, &length);
        if (got < 0) return;
        sendto(datagrams, piece, (size_t)got, 0, (struct sockaddr *)&peer, length);
    }
}

int main(void) {
    struct sockaddr_in here;
    socklen_t length = sizeof here;
    int listener, datagrams = -1;
    do { /* until the number that TCP was given is free for UDP, too */
        listener = bound(SOCK_STREAM, 0);
        if (listener < 0 || getsockname(listener, (struct sockaddr *)&here, &length)) fail("bind");
        datagrams = bound(SOCK_DGRAM, ntohs(here.sin_port));
        if (datagrams < 0) close(listener);
    } while (datagrams < 0);
    if (listen(listener, 1024)) fail("listen");
    if ((hub = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("epoll_create1");
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, &listener);
    watch(EPOLL_CTL_ADD, datagrams, EPOLLIN, &datagrams);
    printf("port %d\n", ntohs(here.sin_port));
    fflush(stdout);

    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(hub, events, 256, -1);
        for (int i = 0; i < n; i++) {
            void *what = events[i].data.ptr;
            if (what == &listener) welcome(listener);
            else if (what == &datagrams) answer(datagrams);
            else serve(what);
        }
    }
}
