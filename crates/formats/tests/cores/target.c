/* Three threads with known variables, known registers, and a known stack each, all asleep. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

struct account {
    long id;
    double balance;
};

int answer = 4242;
char text[] = "known text";
const char *pointer_to_constant = "constant text";
struct account *heap;
long *shared;
static atomic_int parked;

#ifdef __x86_64__
static const unsigned long patterns[2][4] = {
    {0x1111, 0x2222, 0x3333, 0x4444},
    {0xaaaa, 0xbbbb, 0xcccc, 0xdddd},
};

/* Sleeps in pause(2) with the pattern in a vector register: the call leaves it alone. */
static void sleep_with_registers(int nth)
{
    atomic_fetch_add(&parked, 1);
    for (;;) {
        long call = 34;
        if (__builtin_cpu_supports("avx"))
            __asm__ volatile("vmovdqu %1, %%ymm0\n\tsyscall"
                             : "+a"(call) : "m"(patterns[nth]) : "rcx", "r11", "xmm0", "memory");
        else
            __asm__ volatile("movdqu %1, %%xmm0\n\tsyscall"
                             : "+a"(call) : "m"(patterns[nth]) : "rcx", "r11", "xmm0", "memory");
    }
}
#else
static void sleep_with_registers(int nth)
{
    (void)nth;
    atomic_fetch_add(&parked, 1);
    for (;;)
        pause();
}
#endif

static void descend_first(int depth)
{
    long local_of_first = 7000 + depth;
    if (depth < 3)
        descend_first(depth + 1);
    else
        sleep_with_registers(0);
    printf("%ld\n", local_of_first);
}

static void descend_second(int depth)
{
    double local_of_second = 0.5 + depth;
    if (depth < 2)
        descend_second(depth + 1);
    else
        sleep_with_registers(1);
    printf("%f\n", local_of_second);
}

static void *first(void *unused)
{
    descend_first(0);
    return unused;
}

static void *second(void *unused)
{
    descend_second(0);
    return unused;
}

static void wait_for_the_end(void)
{
    for (;;)
        pause();
}

int main(void)
{
    pthread_t threads[2];

    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    heap = calloc(3, sizeof *heap);
    heap[2] = (struct account){.id = 33, .balance = 12.25};
    shared = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[4097] = 987654321;
    pthread_create(&threads[0], NULL, first, NULL);
    pthread_create(&threads[1], NULL, second, NULL);
    while (atomic_load(&parked) < 2)
        usleep(1000);
    printf("ready\n");
    fflush(stdout);
    wait_for_the_end();
    return 0;
}
