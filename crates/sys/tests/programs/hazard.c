// hazard CASE: has memory that is written behind the page tables, or looks so; says a line and
// waits to be killed.
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

static void *owns_table(void *unused)
{
    unshare(CLONE_FILES);
    int ring = setup(0);
    map_ring(ring);
    struct iovec one = {map(1 << 16), 8192};
    ready = 1 + io_register(ring, 0, &one, 1);
    for (;;)
        pause();
}

static void *waits_as_thread(void *unused)
{
    for (;;)
        pause();
}

static int waits_as_child(void *unused)
{
    die_with_parent();
    for (;;)
        pause();
}

static void plain(void)
{
    printf("0x%lx\n", (long)map(1 << 20));
}

static void registered(void)
{
    int ring = setup(0);
    map_ring(ring);
    char *a = map(1 << 16);
    struct iovec two[] = {{a, 8192}, {a + 16384 + 100, 5000}};
    printf("0x%lx %d\n", (long)a, io_register(ring, 0, two, 2));
}

// Registers a buffer and moves its memory, from page `first` on; something may come in its place.
static void move_registered(int first, int in_place)
{
    long page = sysconf(_SC_PAGESIZE);
    int ring = setup(0);
    map_ring(ring);
    char *a = map(16 * page), *to = map(16 * page);
    struct iovec one = {a, 4 * page};
    int result = io_register(ring, 0, &one, 1);
    char *from = a + first * page;
    if (mremap(from, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
        result = -1;
    if (in_place)
        mmap(from, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("%d\n", result);
}

static void moved(void)
{
    move_registered(0, 0);
}

static void moved_part(void)
{
    move_registered(2, 0);
}

static void moved_and_mapped(void)
{
    move_registered(0, 1);
}

static void unmapped_ring(void)
{
    printf("%d\n", setup(0));
}

static void poller(void)
{
    int ring = setup(IORING_SETUP_SQPOLL);
    map_ring(ring);
    printf("%d\n", ring);
}

static void direct_io(void)
{
    printf("%d\n", open("/bin/ls", O_RDONLY | O_DIRECT));
}

static void direct_aio(void)
{
    unsigned long context = 0;
    open("/bin/ls", O_RDONLY | O_DIRECT);
    printf("%d\n", (int)syscall(SYS_io_setup, 8, &context));
}

static void file_closed(void)
{
    int ring = setup(0);
    map_ring(ring);
    int both[] = {open("/bin/ls", O_RDONLY), open("/etc/passwd", O_RDONLY)};
    int result = io_register(ring, 2, both, 2);
    close(both[0]);
    printf("%d\n", result);
}

static void ring_closed(void)
{
    int ring = setup(0);
    struct iovec one = {map(1 << 16), 2 * sysconf(_SC_PAGESIZE)};
    int result = io_register(ring, 0, &one, 1);
    if (fork() == 0) {
        die_with_parent();
        for (;;)
            pause();
    }
    close(ring);
    printf("%d\n", result);
}

static void sockets(void)
{
    printf("%d\n", socket(AF_XDP, SOCK_RAW, 0));
    socket(AF_INET, SOCK_STREAM, 0);
}

static void own_table(void)
{
    pthread_t thread;
    pthread_create(&thread, 0, owns_table, 0);
    while (!ready)
        usleep(1000);
    printf("%d\n", ready);
}

static void first_thread(void)
{
    int ring = setup(0);
    map_ring(ring);
    struct iovec one = {map(1 << 16), 8192};
    io_register(ring, 0, &one, 1);
    pthread_t thread;
    pthread_create(&thread, 0, waits_as_thread, 0);
    printf("x\n");
    fflush(stdout);
    syscall(SYS_exit, 0);
}

/* Shared memory that can't be written here, and a descriptor of it in a table of a thread's own that can. */
static int shared_file;

static void *holds_file(void *unused)
{
    unshare(CLONE_FILES);
    ready = 1;
    for (;;)
        pause();
}

static void own_table_holds(void)
{
    shared_file = memfd_create("held", 0);
    ftruncate(shared_file, 1 << 16);
    mmap(0, 1 << 16, PROT_READ, MAP_SHARED, shared_file, 0);
    pthread_t thread;
    pthread_create(&thread, 0, holds_file, 0);
    while (!ready)
        usleep(1000);
    close(shared_file);
    printf("x\n");
}

static void first_thread_shares(void)
{
    mmap(0, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    pthread_create(&thread, 0, waits_as_thread, 0);
    printf("x\n");
    fflush(stdout);
    syscall(SYS_exit, 0);
}

static void one_memory(void)
{
    static char stack[1 << 16];
    int child = clone(waits_as_child, stack + sizeof stack, CLONE_VM, 0);
    if (fork() == 0) {
        die_with_parent();
        for (;;)
            pause();
    }
    printf("%d\n", child);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"plain", plain},
    {"registered", registered},
    {"moved", moved}, {"moved_part", moved_part}, {"moved_and_mapped", moved_and_mapped}, {"unmapped_ring", unmapped_ring},
    {"poller", poller},
    {"direct_io", direct_io},
    {"direct_aio", direct_aio},
    {"file_closed", file_closed},
    {"ring_closed", ring_closed},
    {"sockets", sockets},
    {"own_table", own_table},
    {"first_thread", first_thread},
    {"first_thread_shares", first_thread_shares},
    {"own_table_holds", own_table_holds},
    {"one_memory", one_memory},
};

int main(int count, char **args)
{
    self = getpid();
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        if (count == 2 && strcmp(cases[i].name, args[1]) == 0) {
            cases[i].run();
            fflush(stdout);
            for (;;)
                pause();
        }
    return 2;
}
