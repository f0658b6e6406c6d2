/* UDP load: every flow keeps `window` datagrams in flight and learns of a loss from the next number it sees.
 *
 * A datagram starts with its number and the time it was sent (16 bytes); the rest is the pattern.
 * recvmmsg and sendmmsg carry up to 64 of them at once, so that a datagram costs less here than in the server;
 * a single flow may have two threads, one that sends and one that receives. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define BATCH 64
#define ROOM 65536
#define HEADER 16
#define SILENCE 200000000 /* ns without an answer after which what is in flight counts as lost */

struct flow {
    int fd;
    _Atomic uint64_t next, expected; /* the number to send and the number to receive */
    _Atomic uint64_t heard;          /* when the last answer came */
    char *out; /* BATCH (or `segments`) datagrams, one after the other */
};

static struct flow *all;
static _Atomic int next_thread;

void udp_open(void) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int room = 4 * 1024 * 1024, size = options.size, one = 1;
    if (!(all = calloc((size_t)options.connections, sizeof *all))) fail("calloc");
    for (struct flow *f = all; f < all + options.connections; f++) {
        f->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        f->out = malloc((size_t)(size * BATCH));
        if (f->fd < 0 || !f->out || connect(f->fd, (struct sockaddr *)&there, sizeof there)) fail("flow");
        setsockopt(f->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        if (options.segments > 1 && setsockopt(f->fd, SOL_UDP, UDP_SEGMENT, &size, sizeof size))
            fail("UDP_SEGMENT");
        if (options.gro && setsockopt(f->fd, SOL_UDP, UDP_GRO, &one, sizeof one)) fail("UDP_GRO");
        for (int i = 0; i < BATCH; i++) memcpy(f->out + i * size + HEADER, pattern, (size_t)(size - HEADER));
        f->heard = now();
    }
}

/* Fills the window, not datagram by datagram but a quarter of it at a time; with segments, a whole send. */
static void send_more(struct flow *f, struct tally *tally) {
    int size = options.size, least = options.segments > 1 ? options.segments : (options.window + 3) / 4;
    for (;;) {
        int room = options.window - (int)(f->next - f->expected), n = room < BATCH ? room : BATCH, sent;
        if (room < least) return;
        if (options.segments > 1) n = options.segments;
        struct mmsghdr messages[BATCH];
        struct iovec pieces[BATCH];
        uint64_t at = now();
        for (int i = 0; i < n; i++) {
            uint64_t header[2] = {f->next + (uint64_t)i, at};
            memcpy(f->out + i * size, header, HEADER);
            pieces[i] = (struct iovec){f->out + i * size, (size_t)size};
            messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &pieces[i], .msg_iovlen = 1}};
        }
        if (options.segments > 1) sent = send(f->fd, f->out, (size_t)(n * size), 0) < 0 ? 0 : n;
        else sent = sendmmsg(f->fd, messages, (unsigned)n, 0);
        if (sent <= 0) {
            if (errno != EAGAIN && errno != ENOBUFS) tally->errors++;
            return;
        }
        f->next += (uint64_t)sent;
        if (sent < n) return;
    }
}

static void take(struct flow *f, const char *datagram, size_t length, uint64_t at, struct tally *tally) {
    uint64_t header[2];
    memcpy(header, datagram, length < HEADER ? 0 : HEADER);
    if (length != (size_t)options.size || differs(datagram + HEADER, length - HEADER, pattern)) {
        tally->errors++;
        return;
    }
    uint64_t expected = f->expected;
    if (header[0] < expected) return; /* counted as lost, and late after all */
    if (phase == MEASURING) {
        tally->lost += header[0] - expected;
        count(tally, at - header[1]);
    }
    f->expected = header[0] + 1;
}

/* One recvmmsg. A coalesced message names its datagrams' size in a control message. */
static int receive(struct flow *f, char *rooms, struct tally *tally) {
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int))]; } controls[BATCH];
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){rooms + (size_t)i * ROOM, ROOM};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &pieces[i], .msg_iovlen = 1}};
        if (options.gro) {
            messages[i].msg_hdr.msg_control = controls[i].bytes;
            messages[i].msg_hdr.msg_controllen = sizeof controls[i].bytes;
        }
    }
    int n = recvmmsg(f->fd, messages, BATCH, 0, NULL);
    uint64_t at = now();
    for (int i = 0; i < n; i++) {
        size_t length = messages[i].msg_len, step = length;
        struct cmsghdr *control = options.gro ? CMSG_FIRSTHDR(&messages[i].msg_hdr) : NULL;
        if (control && control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(control), sizeof size);
            step = (size_t)size;
        }
        for (size_t from = 0; from < length; from += step)
            take(f, rooms + (size_t)i * ROOM + from, length - from < step ? length - from : step, at, tally);
    }
    if (n > 0) f->heard = at;
    return n;
}

/* Gives up what has been in flight for too long, or a flow whose whole window was lost would stand still. */
static void give_up(struct flow *f, uint64_t at, struct tally *tally) {
    if ((int64_t)(at - f->heard) < SILENCE) return; /* negative: the other thread has heard just now */
    if (phase == MEASURING) tally->lost += f->next - f->expected;
    f->expected = f->next;
    f->heard = at;
}

void *udp_thread(void *argument) {
    struct tally *tally = argument;
    struct epoll_event events[BATCH];
    char *rooms = malloc((size_t)BATCH * ROOM);
    int first = next_thread++, hub = epoll_create1(EPOLL_CLOEXEC);
    if (!rooms || hub < 0) fail("thread");
    int shared = options.threads > options.connections; /* by two threads; the first one sends */
    if (shared && first == 0) {
        for (; phase != OVER; give_up(&all[0], now(), tally)) send_more(&all[0], tally);
        return NULL;
    }
    for (int i = shared ? 0 : first; i < options.connections; i += options.threads) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(hub, EPOLL_CTL_ADD, all[i].fd, &event)) fail("epoll_ctl");
        if (!shared) send_more(&all[i], tally);
    }
    for (uint64_t turn = 1; phase != OVER; turn++) {
        int n = epoll_wait(hub, events, BATCH, 0);
        for (int i = 0; i < n; i++) {
            receive(events[i].data.ptr, rooms, tally);
            if (!shared) send_more(events[i].data.ptr, tally);
        }
        if (shared || turn % 1024) continue;
        for (int i = first; i < options.connections; i += options.threads) {
            give_up(&all[i], now(), tally);
            send_more(&all[i], tally);
        }
    }
    return NULL;
}
