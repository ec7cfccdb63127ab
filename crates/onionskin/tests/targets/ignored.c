// ignored: threads that wait for an hour in calls that any signal ends, while signals come that
// the process ignores. Without a tracer, none of them ends a call.
//
// A thread makes children, whose ends it is told by SIGCHLD; another process sends SIGWINCH and
// SIGURG.
//
// Commands: report: {"waiting":n,"ended":n,"children":n,"sent":n}; `ended` counts waits that
// returned.
#include "common.h"
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { HOUR_S = 3600, EACH = 3 };

static volatile uint64_t waiting, ended, children;
static struct traffic { volatile uint64_t sent, ready; } *traffic;
static int semaphores;

static struct timespec hour = {.tv_sec = HOUR_S};

static void pair(int *fds) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    struct timeval t = {.tv_sec = HOUR_S};
    for (int i = 0; i < 2; i++) {
        CHECK(setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
        CHECK(setsockopt(fds[i], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
    }
}

static void wait_epoll(void) {
    struct epoll_event event;
    int epoll = CHECK(epoll_create1(EPOLL_CLOEXEC));
    epoll_wait(epoll, &event, 1, HOUR_S * 1000);
}

static void wait_signal(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 5);
    sigtimedwait(&set, NULL, &hour);
}

static void wait_semaphore(void) {
    struct sembuf operation = {.sem_op = -1};
    semtimedop(semaphores, &operation, 1, &hour);
}

static void wait_receive(void) {
    int fds[2];
    char byte;
    pair(fds);
    recv(fds[0], &byte, 1, 0);
}

static void wait_send(void) {
    int fds[2];
    char bytes[4096] = {0};
    pair(fds);
    while (send(fds[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0) {}
    send(fds[0], bytes, sizeof bytes, 0);
}

static void *waiter(void *body) {
    __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    ((void (*)(void))body)();
    __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *parent(void *unused) {
    (void)unused;
    for (;; children++) {
        pid_t pid = CHECK(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
        if (pid == 0) syscall(SYS_exit_group, 0);
        CHECK(waitpid(pid, NULL, 0));
        sleep_ns(200000);
    }
    return NULL;
}

static void send_signals(void) {
    die_with_parent();
    pid_t to = getppid();
    // A task that makes threads blocks its signals meanwhile, and others get them.
    while (!traffic->ready) sleep_ns(1000000);
    for (;; traffic->sent++) {
        sleep_ns(200000);
        if (kill(to, traffic->sent % 2 ? SIGWINCH : SIGURG)) _exit(0);
    }
}

int main(void) {
    static void (*const bodies[])(void) = {wait_epoll, wait_signal, wait_semaphore, wait_receive,
                                           wait_send};
    die_with_parent();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 5);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    semaphores = CHECK(semget(IPC_PRIVATE, 1, 0600));
    traffic = map(sizeof *traffic, MAP_SHARED | MAP_ANONYMOUS);
    if (CHECK(fork()) == 0) send_signals();
    for (int i = 0; i < EACH; i++) {
        for (size_t at = 0; at < sizeof bodies / sizeof *bodies; at++)
            start_thread(waiter, (void *)bodies[at]);
        // Among the others, by its number.
        if (i == 0) start_thread(parent, NULL);
    }
    // Until all of them sleep.
    sleep_ns(100000000);
    traffic->ready = 1;
    answer("{\"pid\":%d}", getpid());
    char line[64];
    while (read_command(line, sizeof line))
        answer("{\"waiting\":%lu,\"ended\":%lu,\"children\":%lu,\"sent\":%lu}", waiting, ended,
               children, traffic->sent);
    CHECK(semctl(semaphores, 0, IPC_RMID));
    _exit(0);
}
