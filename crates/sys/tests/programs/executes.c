// executes: forty threads, of which one, not the first, has the process execute itself again, a
// moment after it has begun. It never ends by itself.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
static char **own;
static void pause_us(long us) { nanosleep(&(struct timespec){0, us * 1000}, 0); }
static void *sleep_on(void *unused) {
    for (;;) pause();
}
static void *execute(void *unused) {
    pause_us(500);
    execv("/proc/self/exe", own);
    _exit(1);
}
int main(int count, char **arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    own = arguments;
    pthread_t t;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (int i = 0; i < 38; i++) pthread_create(&t, &small, i == 19 ? execute : sleep_on, 0);
    sleep_on(0);
}
