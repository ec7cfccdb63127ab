// first_waits: the first thread waits in a call that any signal ends, and so do others, while signals
// come that the process ignores: three threads make children, whose ends they are told by SIGCHLD,
// and another process sends SIGWINCH. Without a tracer, none of them ends a call. Each line that is
// read is answered by how many waits ended, and how many children there were.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static volatile long ended, children;
static void pause_us(long us) { nanosleep(&(struct timespec){0, us * 1000}, 0); }
static void *wait_long(void *unused) {
    struct epoll_event event;
    int set = epoll_create1(0);
    for (;;) {
        epoll_wait(set, &event, 1, 3600 * 1000);
        __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
    }
}
static void *make_children(void *unused) {
    for (;;) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        if (child > 0) waitpid(child, 0, 0);
        __atomic_add_fetch(&children, 1, __ATOMIC_SEQ_CST);
        pause_us(200);
    }
}
static void *answer(void *sender) {
    char line[16];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        printf("%ld %ld\n", ended, children);
        fflush(stdout);
    }
    kill(*(pid_t *)sender, SIGKILL);
    exit(0);
}
int main(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pid_t to = getpid(), sender = fork();
    if (sender == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        // A thread that is made just now blocks its signals, and others get them.
        pause_us(100000);
        while (getppid() == to && kill(to, SIGWINCH) == 0) pause_us(200);
        _exit(0);
    }
    pthread_t t;
    for (int i = 0; i < 4; i++) pthread_create(&t, 0, wait_long, 0);
    for (int i = 0; i < 3; i++) pthread_create(&t, 0, make_children, 0);
    pthread_create(&t, 0, answer, &sender);
    wait_long(0);
}
