// waits MS: threads that wait for so long, again and again, in calls that any signal ends, and one that
// is woken ten times in that time. Each line that is read is answered by how often each wait ended
// by itself, how often one was interrupted or ended early, and the task that waits for events.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static long ms;
static volatile long ended[3], interrupted, early, waiter;
static int event, semaphores;
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static struct timespec in(long ms) { return (struct timespec){ms / 1000, ms % 1000 * 1000000}; }
static long once(long kind, int set) {
    struct epoll_event got;
    struct timespec t = in(ms);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGRTMIN + 5);
    struct sembuf down = {.sem_op = -1};
    if (kind == 0) return epoll_wait(set, &got, 1, ms) == 0 ? 0 : errno;
    if (kind == 1) return sigtimedwait(&signals, 0, &t) < 0 && errno == EAGAIN ? 0 : errno;
    return semtimedop(semaphores, &down, 1, &t) < 0 && errno == EAGAIN ? 0 : errno;
}
static void *wait_long(void *arg) {
    long kind = (long)arg;
    int set = epoll_create1(0);
    if (kind == 0) waiter = syscall(SYS_gettid);
    for (;;) {
        double from = now();
        if (once(kind, set)) __atomic_add_fetch(&interrupted, 1, __ATOMIC_SEQ_CST);
        else if (now() - from < ms / 1e3 - 0.001) __atomic_add_fetch(&early, 1, __ATOMIC_SEQ_CST);
        else ended[kind]++;
    }
}
static void *be_woken(void *arg) {
    int set = epoll_create1(0);
    struct epoll_event got = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, event, &got);
    for (;;) {
        double from = now();
        uint64_t count;
        int found = epoll_wait(set, &got, 1, ms);
        if (found == 1) read(event, &count, 8);
        else if (found < 0) __atomic_add_fetch(&interrupted, 1, __ATOMIC_SEQ_CST);
        else if (now() - from < ms / 1e3 - 0.001) __atomic_add_fetch(&early, 1, __ATOMIC_SEQ_CST);
    }
}
static void *wake(void *arg) {
    for (uint64_t one = 1;;) {
        struct timespec t = in(ms / 10);
        nanosleep(&t, 0);
        write(event, &one, 8);
    }
}
int main(int count, char **arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ms = atol(arguments[1]);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGRTMIN + 5);
    pthread_sigmask(SIG_BLOCK, &signals, 0);
    event = eventfd(0, 0);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    pthread_t t;
    for (long kind = 0; kind < 3; kind++) pthread_create(&t, 0, wait_long, (void *)kind);
    pthread_create(&t, 0, be_woken, 0);
    pthread_create(&t, 0, wake, 0);
    usleep(100000);
    // It goes with the last who is in it.
    puts("ready");
    fflush(stdout);
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        printf("%ld %ld %ld interrupted %ld early %ld waiter %ld\n", ended[0], ended[1], ended[2],
               interrupted, early, waiter);
        fflush(stdout);
    }
    semctl(semaphores, 0, IPC_RMID);
    return 0;
}
