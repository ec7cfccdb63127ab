#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile int ready;
static pid_t self;

/* A parent that is killed before this is called leaves no orphan either. */
static void die_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, 9);
    if (getppid() != self)
        _exit(0);
}

static char *map(size_t len)
{
    char *p = mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(p, len, MADV_NOHUGEPAGE);
    return memset(p, 1, len);
}

static int setup(unsigned flags)
{
    struct io_uring_params params = {.flags = flags};
    return syscall(SYS_io_uring_setup, 4, &params);
}

static void map_ring(int ring)
{
    mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
}

static int io_register(int ring, unsigned what, void *arg, unsigned count)
{
    return syscall(SYS_io_uring_register, ring, what, arg, count);
}

static void *own_table(void *unused)
{
    unshare(CLONE_FILES);
    int ring = setup(0);
    map_ring(ring);
    struct iovec one = {map(1 << 16), 8192};
    ready = 1 + io_register(ring, 0, &one, 1);
    for (;;)
        pause();
}

static int waits(void *unused)
{
    for (;;)
        pause();
}

static int waits_as_child(void *unused)
{
    die_with_parent();
    return waits(unused);
}

int main(void)
{
    self = getpid();
