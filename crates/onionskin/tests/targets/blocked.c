// blocked: threads that wait in system calls, each of which checks what came back and when.
//
//   --ms N        how long a timed wait asks for (200)
//   --slack-ms N  how much later it may return on a loaded machine (4000)
//   --only NAME   only that wait
//   --filtered    under a filter that kills who goes on by restart_syscall
//
// Waits: nanosleep, clock_nanosleep, poll, ppoll, select, futex, futex_wake, epoll, epoll_forever,
// pipe, sigtimedwait, semtimedop, accept, recv, pause, wait4; and on sockets with a timeout: sock_read,
// sock_preadv2, sock_recvmsg, sock_recvmmsg, sock_splice_in, sock_accept, sock_write, sock_pwritev2,
// sock_sendmsg, sock_sendmmsg, sock_sendfile, sock_splice_out, sock_connect (of TCP), sock_local (a
// connect), and sock_woken, whose byte comes in time. Those without a time limit
// are woken by another thread. Besides: `signals` (another process queues numbered real-time signals; each
// must come once and in order), `timer` (an interval timer's signals arrive), `registers` (a loop
// that holds known values in all registers), `redzone`, `tls`.
//
// Commands: report: {"rounds":{NAME:n,..},"violations":n,"first":"..","eintr":{NAME:n,..},
// "sent":n,"received":n}. A wait that returns EINTR counts under `eintr`, not as a violation:
// signal(7) names calls that the kernel itself ends so after any stop of the process.
#include "common.h"
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include "registers.h"

static uint64_t ask_ns, slack_ns;
static int violations;
static char first[256];
static int stopping;

static void violation(const char *format, ...) {
    char text[200];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (__atomic_fetch_add(&violations, 1, __ATOMIC_SEQ_CST) == 0) strcpy(first, text);
    fprintf(stderr, "violation: %s\n", text);
}

struct wait {
    const char *name;
    void (*body)(struct wait *);
    int fds[2];
    volatile uint64_t rounds, eintr;
    volatile int tid, asleep;
    uint32_t futex;
    volatile uint64_t woken;
    uint64_t ticked;
};

// The time at the last tick, by which the kernel counts the timeouts of sockets. Where an emulator's
// ticks come late, a wait that begins before one ends as much too early by other clocks.
static uint64_t ticked_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t begin_on_socket(struct wait *w) {
    w->ticked = ticked_ns();
    return now_ns();
}

static struct timespec in(uint64_t ns) {
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

// Checks the result of a timed wait that began at `start`; EINTR is only counted.
static void timed(struct wait *w, uint64_t start, long result, long expected, int error) {
    uint64_t took = now_ns() - start;
    if (result == -1 && errno == EINTR) {
        w->eintr++;
        return;
    }
    if (result != expected || (result == -1 && errno != error))
        violation("%s returned %ld (errno %d)", w->name, result, errno);
    // Clocks of different resolution round: a millisecond less is no violation of poll(2), and
    // sockets count in ticks, some of which may come late.
    uint64_t early = w->ticked ? 30000000 : 1000000;
    uint64_t ticked = w->ticked ? ticked_ns() - w->ticked : took;
    uint64_t longer = ticked > took ? ticked : took;
    if (longer + early < ask_ns) violation("%s returned %lu ns early", w->name, ask_ns - longer);
    if (took > ask_ns + slack_ns) violation("%s was %lu ns late", w->name, took - ask_ns);
    w->rounds++;
}

static void do_nanosleep(struct wait *w) {
    uint64_t start = now_ns();
    struct timespec t = in(ask_ns);
    timed(w, start, nanosleep(&t, NULL), 0, 0);
}

static void do_clock_nanosleep(struct wait *w) {
    uint64_t start = now_ns();
    struct timespec t = in(start + ask_ns);
    int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    errno = error;
    timed(w, start, error ? -1 : 0, 0, 0);
}

static void do_poll(struct wait *w) {
    uint64_t start = now_ns();
    struct pollfd fd = {.fd = w->fds[0], .events = POLLIN};
    timed(w, start, poll(&fd, 1, ask_ns / 1000000), 0, 0);
}

static void do_ppoll(struct wait *w) {
    uint64_t start = now_ns();
    struct pollfd fd = {.fd = w->fds[0], .events = POLLIN};
    struct timespec t = in(ask_ns);
    sigset_t mask, before, after;
    sigfillset(&mask);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    timed(w, start, ppoll(&fd, 1, &t, &mask), 0, 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    if (memcmp(&before, &after, 8)) violation("ppoll left another signal mask");
}

static void do_select(struct wait *w) {
    uint64_t start = now_ns();
    fd_set set;
    FD_ZERO(&set);
    FD_SET(w->fds[0], &set);
    struct timeval t = {.tv_sec = ask_ns / 1000000000, .tv_usec = ask_ns % 1000000000 / 1000};
    timed(w, start, select(w->fds[0] + 1, &set, NULL, NULL, &t), 0, 0);
}

static void do_futex(struct wait *w) {
    uint64_t start = now_ns();
    struct timespec t = in(ask_ns);
    timed(w, start, syscall(SYS_futex, &w->futex, FUTEX_WAIT, 0, &t, NULL, 0), -1, ETIMEDOUT);
}

static void do_epoll(struct wait *w) {
    uint64_t start = now_ns();
    struct epoll_event event;
    timed(w, start, epoll_wait(w->fds[1], &event, 1, ask_ns / 1000000), 0, 0);
}

static void do_sigtimedwait(struct wait *w) {
    uint64_t start = now_ns();
    struct timespec t = in(ask_ns);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 5);
    timed(w, start, sigtimedwait(&set, NULL, &t), -1, EAGAIN);
}

static void do_semtimedop(struct wait *w) {
    uint64_t start = now_ns();
    struct timespec t = in(ask_ns);
    struct sembuf operation = {.sem_op = -1};
    timed(w, start, semtimedop(w->fds[0], &operation, 1, &t), -1, EAGAIN);
}

// A wait without a limit: the waker sends the number of the round.
static void untimed(struct wait *w, long result, long expected) {
    if (result == -1 && errno == EINTR) {
        w->eintr++;
        return;
    }
    if (result != expected) violation("%s returned %ld (errno %d)", w->name, result, errno);
    w->rounds++;
}

static void check_byte(struct wait *w, char byte) {
    char expected = (char)w->rounds;
    if (byte != expected) violation("%s got byte %d, not %d", w->name, byte, expected);
}

static void do_pipe(struct wait *w) {
    char byte = 0;
    long result = read(w->fds[0], &byte, 1);
    if (result == 1) check_byte(w, byte);
    untimed(w, result, 1);
}

static void do_recv(struct wait *w) {
    char byte = 0;
    long result = recv(w->fds[0], &byte, 1, 0);
    if (result == 1) check_byte(w, byte);
    untimed(w, result, 1);
}

static void do_epoll_forever(struct wait *w) {
    struct epoll_event event = {0};
    long result = epoll_wait(w->woken, &event, 1, -1);
    if (result == 1) {
        char byte;
        if (read(w->fds[0], &byte, 1) != 1) violation("epoll told of nothing");
        else check_byte(w, byte);
    }
    untimed(w, result, 1);
}

// Moves a byte from a socket into a pipe, or the other way, or out of a file.
static long move(int fd, const char *call) {
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC));
    CHECK(write(ends[1], "x", 1));
    int file = CHECK(memfd_create("file", MFD_CLOEXEC));
    CHECK(write(file, "x", 1));
    off_t start = 0;
    long result;
    if (!strcmp(call, "splice_in")) result = splice(fd, NULL, ends[1], NULL, 1, 0);
    else if (!strcmp(call, "splice_out")) result = splice(ends[0], NULL, fd, NULL, 1, 0);
    else result = sendfile(fd, file, &start, 1);
    int error = errno;
    close(ends[0]), close(ends[1]), close(file);
    errno = error;
    return result;
}

// Waits on sockets with a timeout, fds[0]: nothing comes, nothing more fits, nobody answers.
static void do_sock(struct wait *w) {
    const char *call = w->name + strlen("sock_");
    char bytes[65536] = {0};
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    int fd = w->fds[0], error = EAGAIN;
    uint64_t start = begin_on_socket(w);
    long result;
    if (!strcmp(call, "read")) result = read(fd, bytes, 1);
    else if (!strcmp(call, "recvmsg")) result = recvmsg(fd, &message, 0);
    else if (!strcmp(call, "recvmmsg")) result = recvmmsg(fd, &messages, 1, 0, NULL);
    else if (!strcmp(call, "preadv2")) result = preadv2(fd, &part, 1, -1, 0);
    else if (!strcmp(call, "pwritev2")) result = pwritev2(fd, &part, 1, -1, 0);
    else if (!strncmp(call, "splice", 6) || !strcmp(call, "sendfile")) {
        // An old kernel (6.1) adds a few pages to what a full local socket holds already.
        for (int more = 64; (result = move(fd, call)) == 1 && more; more--) start = begin_on_socket(w);
    }
    else if (!strcmp(call, "accept")) result = accept(fd, NULL, NULL);
    else if (!strcmp(call, "write")) result = write(fd, bytes, sizeof bytes);
    else if (!strcmp(call, "sendmsg")) result = sendmsg(fd, &message, 0);
    else result = sendmmsg(fd, &messages, 1, 0);
    timed(w, start, result, -1, error);
}

static void set_timeouts(int fd, uint64_t ns) {
    struct timeval t = {.tv_sec = ns / 1000000000, .tv_usec = ns % 1000000000 / 1000};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
}

// Connects to a listener that takes no more. A TCP connection that is tried on after a stop says at
// the end of its time that it was under way already.
static struct sockaddr_in full;
static struct sockaddr_un full_local;
static socklen_t full_local_len;
static void do_connect(struct wait *w) {
    int local = strcmp(w->name, "sock_local") == 0;
    int fd = CHECK(socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    set_timeouts(fd, ask_ns);
    uint64_t start = begin_on_socket(w);
    long result = local ? connect(fd, (struct sockaddr *)&full_local, full_local_len)
                        : connect(fd, (struct sockaddr *)&full, sizeof full);
    if (result == -1 && errno == EALREADY && !local) errno = EINPROGRESS;
    timed(w, start, result, -1, local ? EAGAIN : EINPROGRESS);
    close(fd);
}

static void do_sock_woken(struct wait *w) {
    char byte = 0;
    long result = recv(w->fds[0], &byte, 1, 0);
    if (result == 1) check_byte(w, byte);
    untimed(w, result, 1);
}

static uint32_t wakes_begun, wakes_ended;

static void do_futex_wake(struct wait *w) {
    uint32_t before = __atomic_load_n(&w->futex, __ATOMIC_SEQ_CST);
    if (before == w->woken) {
        // A call to wake may come late, for a change that was seen without waiting for it.
        uint32_t ended = __atomic_load_n(&wakes_ended, __ATOMIC_SEQ_CST);
        long result = syscall(SYS_futex, &w->futex, FUTEX_WAIT, before, NULL, NULL, 0);
        if (result == -1 && errno == EAGAIN) result = 0;
        if (result == 0 && __atomic_load_n(&w->futex, __ATOMIC_SEQ_CST) == before &&
            __atomic_load_n(&wakes_begun, __ATOMIC_SEQ_CST) == ended)
            violation("futex woke up by itself");
        untimed(w, result, 0);
    }
    w->woken = __atomic_load_n(&w->futex, __ATOMIC_SEQ_CST);
}

static void do_accept(struct wait *w) {
    int peer = accept(w->fds[0], NULL, NULL);
    untimed(w, peer >= 0 ? 0 : -1, 0);
    if (peer >= 0) close(peer);
}

static __thread volatile uint64_t handled;
static void on_usr2(int number) { (void)number, handled++; }

static void do_pause(struct wait *w) {
    uint64_t before = handled;
    w->asleep = 1;
    long result = pause();
    w->asleep = 0;
    if (result != -1 || errno != EINTR) violation("pause returned %ld (%d)", result, errno);
    if (handled == before) violation("pause returned without a signal");
    w->rounds++;
}

static void do_wait4(struct wait *w) {
    int code = w->rounds % 100, status = 0;
    // Its own fork, without the handlers of libc that a thread of many should not run.
    pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        struct timespec t = in(ask_ns);
        syscall(SYS_nanosleep, &t, NULL);
        syscall(SYS_exit_group, code);
    }
    long result;
    while ((result = wait4(pid, &status, 0, NULL)) == -1 && errno == EINTR) w->eintr++;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
        violation("wait4 gave status %#x, not exit %d", status, code);
    untimed(w, result, pid);
}

static __thread uint64_t tls_value;
static void do_tls(struct wait *w) {
    uint64_t value = mix(w->rounds);
    tls_value = value, errno = 1234;
    for (int i = 0; i < 200000; i++) __asm__ volatile("" ::: "memory");
    if (tls_value != value || errno != 1234) violation("thread-local memory changed");
    w->rounds++;
}

static void do_registers(struct wait *w) {
    const char *wrong = hold_registers(mix(w->rounds));
    if (wrong) violation("register %s changed", wrong);
    w->rounds++;
}

static void do_redzone(struct wait *w) {
    if (!hold_red_zone(mix(w->rounds) | 1)) violation("the red zone changed");
    w->rounds++;
}

static struct wait waits[] = {
    {.name = "nanosleep", .body = do_nanosleep},
    {.name = "clock_nanosleep", .body = do_clock_nanosleep},
    {.name = "poll", .body = do_poll},
    {.name = "ppoll", .body = do_ppoll},
    {.name = "select", .body = do_select},
    {.name = "futex", .body = do_futex},
    {.name = "futex_wake", .body = do_futex_wake},
    {.name = "epoll", .body = do_epoll},
    {.name = "epoll_forever", .body = do_epoll_forever},
    {.name = "pipe", .body = do_pipe},
    {.name = "sigtimedwait", .body = do_sigtimedwait},
    {.name = "semtimedop", .body = do_semtimedop},
    {.name = "accept", .body = do_accept},
    {.name = "recv", .body = do_recv},
    {.name = "sock_read", .body = do_sock},
    {.name = "sock_preadv2", .body = do_sock},
    {.name = "sock_recvmsg", .body = do_sock},
    {.name = "sock_recvmmsg", .body = do_sock},
    {.name = "sock_splice_in", .body = do_sock},
    {.name = "sock_accept", .body = do_sock},
    {.name = "sock_write", .body = do_sock},
    {.name = "sock_pwritev2", .body = do_sock},
    {.name = "sock_sendmsg", .body = do_sock},
    {.name = "sock_sendmmsg", .body = do_sock},
    {.name = "sock_sendfile", .body = do_sock},
    {.name = "sock_splice_out", .body = do_sock},
    {.name = "sock_connect", .body = do_connect},
    {.name = "sock_local", .body = do_connect},
    {.name = "sock_woken", .body = do_sock_woken},
    {.name = "pause", .body = do_pause},
    {.name = "wait4", .body = do_wait4},
    {.name = "tls", .body = do_tls},
    {.name = "registers", .body = do_registers},
    {.name = "redzone", .body = do_redzone},
};
enum { WAITS = sizeof waits / sizeof *waits };

static struct wait *find(const char *name) {
    for (int i = 0; i < WAITS; i++)
        if (strcmp(waits[i].name, name) == 0) return &waits[i];
    fail(2, "no wait %s", name);
    return NULL;
}

static void *waiter(void *argument) {
    struct wait *w = argument;
    w->tid = syscall(SYS_gettid);
    while (!stopping) w->body(w);
    return NULL;
}

static struct sockaddr_in listening;

// Wakes the waits that have no limit, about as often as the others end.
static void *waker(void *unused) {
    (void)unused;
    struct wait *to_pipe = find("pipe"), *to_epoll = find("epoll_forever"), *to_recv = find("recv");
    struct wait *to_futex = find("futex_wake"), *to_pause = find("pause");
    struct wait *to_socket = find("sock_woken");
    for (uint64_t round = 0; !stopping; round++) {
        sleep_ns(ask_ns);
        char byte = (char)round;
        // A slow reader must not lose its place: one byte at a time.
        while (to_pipe->tid && to_pipe->rounds < round) sleep_ns(1000000);
        while (to_recv->tid && to_recv->rounds < round) sleep_ns(1000000);
        while (to_socket->tid && to_socket->rounds < round) sleep_ns(1000000);
        while (to_epoll->tid && to_epoll->rounds < round) sleep_ns(1000000);
        CHECK(write(to_pipe->fds[1], &byte, 1));
        CHECK(write(to_recv->fds[1], &byte, 1));
        CHECK(write(to_socket->fds[1], &byte, 1));
        CHECK(write(to_epoll->fds[1], &byte, 1));
        __atomic_add_fetch(&wakes_begun, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&to_futex->futex, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &to_futex->futex, FUTEX_WAKE, 1, NULL, NULL, 0);
        __atomic_add_fetch(&wakes_ended, 1, __ATOMIC_SEQ_CST);
        if (find("accept")->tid) {
            int peer = CHECK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            if (connect(peer, (struct sockaddr *)&listening, sizeof listening) == 0) close(peer);
        }
        if (to_pause->asleep) syscall(SYS_tgkill, getpid(), to_pause->tid, SIGUSR2);
    }
    return NULL;
}

// Signals with numbers, sent by a child.
struct traffic { volatile uint64_t sent, pause; };
static struct traffic *traffic;
static volatile uint64_t received, ticks;

static void on_number(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    if ((uint64_t)(uint32_t)info->si_value.sival_int != (received & 0xffffffff))
        violation("signal %d came when %lu was due", info->si_value.sival_int, received);
    received++;
}

static void on_tick(int number) { (void)number, ticks++; }

static void *signal_taker(void *unused) {
    (void)unused;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (uint64_t sink = 0;; sink++) {
        // By turns in user code and in a call that signals interrupt.
        for (volatile int i = 0; i < 100000; i++) {}
        struct timespec t = in(1000000);
        nanosleep(&t, NULL);
    }
    return NULL;
}

static void send_signals(void) {
    die_with_parent();
    pid_t parent = getppid();
    for (;;) {
        sleep_ns(500000);
        if (traffic->pause) continue;
        union sigval value = {.sival_int = (int)traffic->sent};
        if (sigqueue(parent, SIGRTMIN + 1, value) == 0) traffic->sent++;
        else if (errno != EAGAIN) _exit(0);
    }
}

// A listener whose queue is full.
static socklen_t fill_up(int domain, struct sockaddr *address, socklen_t len) {
    int listener = CHECK(socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0));
    // A local socket without a name is given one of its own.
    CHECK(bind(listener, address, domain == AF_UNIX ? sizeof address->sa_family : len));
    CHECK(getsockname(listener, address, &len));
    CHECK(listen(listener, 0));
    for (int i = 0; i < 4; i++) {
        int fd = CHECK(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        connect(fd, address, len);
    }
    return len;
}

static void prepare_sockets(void) {
    for (int i = 0; i < WAITS; i++) {
        struct wait *w = &waits[i];
        if (strncmp(w->name, "sock_", 5)) continue;
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w->fds));
        set_timeouts(w->fds[0], w->body == do_sock ? ask_ns : 3600000000000);
        if (w->body == do_sock)
            while (send(w->fds[0], (char[4096]){0}, 4096, MSG_DONTWAIT) > 0) {}
    }
    int listener = CHECK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct sockaddr_un unnamed = {.sun_family = AF_UNIX};
    CHECK(bind(listener, (struct sockaddr *)&unnamed, sizeof unnamed.sun_family));
    CHECK(listen(listener, 1));
    set_timeouts(listener, ask_ns);
    find("sock_accept")->fds[0] = listener;
    full = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    full_local = (struct sockaddr_un){.sun_family = AF_UNIX};
    fill_up(AF_INET, (struct sockaddr *)&full, sizeof full);
    full_local_len = fill_up(AF_UNIX, (struct sockaddr *)&full_local, sizeof full_local);
}

static void prepare(void) {
    for (int i = 0; i < WAITS; i++) CHECK(pipe2(waits[i].fds, O_CLOEXEC));
    prepare_sockets();
    struct wait *w = find("epoll");
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = CHECK(epoll_create1(EPOLL_CLOEXEC));
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, w->fds[0], &event));
    w->fds[1] = epoll;
    w = find("epoll_forever");
    w->woken = CHECK(epoll_create1(EPOLL_CLOEXEC));
    CHECK(epoll_ctl(w->woken, EPOLL_CTL_ADD, w->fds[0], &event));
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, find("recv")->fds));
    int listener = CHECK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    listening = (struct sockaddr_in){.sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof listening;
    CHECK(bind(listener, (struct sockaddr *)&listening, len));
    CHECK(getsockname(listener, (struct sockaddr *)&listening, &len));
    CHECK(listen(listener, 64));
    find("accept")->fds[0] = listener;
    int semaphores = CHECK(semget(IPC_PRIVATE, 1, 0600));
    find("semtimedop")->fds[0] = semaphores;
}

static void start_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigaddset(&set, SIGRTMIN + 5);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct sigaction number = {.sa_sigaction = on_number, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGRTMIN + 1, &number, NULL));
    struct sigaction tick = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGALRM, &tick, NULL));
    struct sigaction usr2 = {.sa_handler = on_usr2};
    CHECK(sigaction(SIGUSR2, &usr2, NULL));
    traffic = map(sizeof *traffic, MAP_SHARED | MAP_ANONYMOUS);
    if (CHECK(fork()) == 0) send_signals();
    start_thread(signal_taker, NULL);
    struct itimerval every = {{0, 10000}, {0, 10000}};
    CHECK(setitimer(ITIMER_REAL, &every, NULL));
}

static void report(void) {
    traffic->pause = 1;
    sleep_ns(2000000);
    for (uint64_t until = now_ns() + 5000000000ull; received != traffic->sent && now_ns() < until;)
        sleep_ns(1000000);
    if (received != traffic->sent)
        violation("%lu of %lu signals arrived", received, traffic->sent);
    uint64_t before = ticks;
    for (uint64_t until = now_ns() + 5000000000ull; ticks == before && now_ns() < until;)
        sleep_ns(1000000);
    if (ticks == before) violation("the interval timer stands still");
    printf("{\"rounds\":{");
    for (int i = 0; i < WAITS; i++)
        printf("%s\"%s\":%lu", i ? "," : "", waits[i].name, waits[i].rounds);
    printf("},\"eintr\":{");
    for (int i = 0; i < WAITS; i++)
        printf("%s\"%s\":%lu", i ? "," : "", waits[i].name, waits[i].eintr);
    answer("},\"violations\":%d,\"first\":\"%s\",\"sent\":%lu,\"received\":%lu,\"ticks\":%lu}",
           violations, first, traffic->sent, received, ticks);
    traffic->pause = 0;
}

static void forbid_restart(void) {
    struct sock_filter one[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_restart_syscall},
        {BPF_RET, 0, 0, SECCOMP_RET_KILL_PROCESS},
        {BPF_RET, 0, 0, SECCOMP_RET_ALLOW},
    };
    struct sock_fprog program = {4, one};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

int main(int argc, char **argv) {
    die_with_parent();
    if (flag(argc, argv, "filtered")) forbid_restart();
    ask_ns = option(argc, argv, "ms", 200) * 1000000ull;
    slack_ns = option(argc, argv, "slack-ms", 4000) * 1000000ull;
    const char *only = word_option(argc, argv, "only", NULL);
    prepare();
    start_signals();
    for (int i = 0; i < WAITS; i++)
        if (!only || strcmp(only, waits[i].name) == 0) start_thread(waiter, &waits[i]);
    start_thread(waker, NULL);
    answer("{\"pid\":%d}", getpid());
    char line[64];
    while (read_command(line, sizeof line)) report();
    // Its waiter gets an error for it: what came before counts.
    int code = violations ? 3 : 0;
    CHECK(semctl(find("semtimedop")->fds[0], 0, IPC_RMID));
    _exit(code);
}
