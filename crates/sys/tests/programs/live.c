// live: counts in memory, one page a thread, and checks that its calls wait as long as they should.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#define PAGES 1024
static long page;
static volatile unsigned char *area;
static volatile int stop, bad;
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static void *count(void *arg) {
    long id = (long)arg;
    volatile uint64_t *cell = (volatile uint64_t *)(area + id * page);
    while (!stop) { cell[0]++; cell[1]++; }
    return 0;
}
static void *nap(void *arg) {
    while (!stop) {
        struct timespec t = {0, 50000000};
        double from = now();
        if (nanosleep(&t, 0)) bad |= 1;
        if (now() - from < 0.05) bad |= 2;
    }
    return 0;
}
static void *wait_events(void *arg) {
    int set = epoll_create1(0);
    struct epoll_event event;
    while (!stop) {
        double from = now();
        int got = epoll_wait(set, &event, 1, 40);
        if (got < 0) bad |= 4;
        if (got == 0 && now() - from < 0.039) bad |= 8;
    }
    return 0;
}
static void *wait_poll(void *arg) {
    while (!stop) {
        double from = now();
        if (poll(0, 0, 30) != 0) bad |= 16;
        if (now() - from < 0.029) bad |= 32;
    }
    return 0;
}
// live [TABLES]: with so many page tables that hold one page each, which make a fork slow.
int main(int count_of, char **arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    page = sysconf(_SC_PAGESIZE);
    area = mmap(0, PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise((void *)area, PAGES * page, MADV_NOHUGEPAGE);
    for (long i = 0; i < PAGES; i += 2) area[i * page + 100] = 1 + i % 200;
    long tables = count_of > 1 ? atol(arguments[1]) : 0, span = page * page / 8;
    volatile char *sparse = mmap(0, (tables + 1) * span, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    madvise((void *)sparse, (tables + 1) * span, MADV_NOHUGEPAGE);
    for (long i = 0; i < tables; i++) sparse[i * span] = 1;
    pthread_t t;
    for (long i = 0; i < 2; i++) pthread_create(&t, 0, count, (void *)i);
    pthread_create(&t, 0, nap, 0);
    pthread_create(&t, 0, wait_events, 0);
    pthread_create(&t, 0, wait_poll, 0);
    printf("%p\n", (void *)area);
    fflush(stdout);
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] == 'w') { area[strtol(line + 1, 0, 10) * page + 200] = 7; }
        int child = waitpid(-1, 0, WNOHANG | __WALL);
        printf("bad=%d child=%d errno=%d\n", bad, child, child < 0 ? errno : 0);
        fflush(stdout);
    }
    return 0;
}
