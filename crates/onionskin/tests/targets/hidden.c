// hidden: writes that do not show in page tables.
//
// Each area is 16 pages; page i is filled with one byte. The ready line has {"areas":{NAME:
// {"start":n,"len":n,"fill":[16 bytes]}}}, and every command answers with the areas that it
// changed, in the same form, so that a reader of an image can compare without asking the target.
// Its coredump_filter selects all of them.
//
//   memfd V     pwrite to a memfd that is mapped shared (pages filled with V+i)
//   second V    stores through a second mapping of the same shared memory
//   child V     stores by another process
//   punch V     pwrite, then fallocate(PUNCH_HOLE) of every second page
//   file V      write(2) to a file under a private mapping with no page of its own
//   mixed V     the same, where every fourth page was copied by the process before
//   fixed V     READ_FIXED of io_uring into a registered buffer (area left out without io_uring)
//   direct V    an O_DIRECT read(2) into private memory (left out where the file system has none)
//   plain V     ordinary stores, to compare with
//   all V       all of them
#include "common.h"
#include <linux/falloc.h>
#include <linux/io_uring.h>
#include <sys/uio.h>

enum { PAGES = 16 };
struct area {
    const char *name;
    void (*write)(struct area *, int value);
    char *at, *second;
    int fd;
    int missing;
    unsigned char fill[PAGES];
};
static size_t size;
static char *buffer;
static struct { volatile int turn, value; } *child;

static char *map_fd(int fd, int flags) {
    char *at = mmap(NULL, PAGES * size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (at == MAP_FAILED) fail(2, "mmap: %s", strerror(errno));
    return at;
}

static void expect(struct area *a, int value) {
    for (int i = 0; i < PAGES; i++) a->fill[i] = value + i;
}

static void store(char *to, int value) {
    for (int i = 0; i < PAGES; i++) memset(to + i * size, (unsigned char)(value + i), size);
}

static void write_fd(int fd, int value) {
    store(buffer, value);
    if (pwrite(fd, buffer, PAGES * size, 0) != (ssize_t)(PAGES * size)) fail(2, "short write");
}

static void by_descriptor(struct area *a, int value) { write_fd(a->fd, value), expect(a, value); }
static void by_second(struct area *a, int value) { store(a->second, value), expect(a, value); }
static void by_store(struct area *a, int value) { store(a->at, value), expect(a, value); }

static void by_child(struct area *a, int value) {
    child->value = value;
    __sync_synchronize();
    child->turn = 1;
    while (child->turn) sleep_ns(100000);
    expect(a, value);
}

static void by_punch(struct area *a, int value) {
    by_descriptor(a, value);
    for (int i = 0; i < PAGES; i += 2) {
        CHECK(fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * size, size));
        a->fill[i] = 0;
    }
}

static void by_mixed(struct area *a, int value) {
    unsigned char own[PAGES];
    memcpy(own, a->fill, sizeof own);
    by_descriptor(a, value);
    for (int i = 0; i < PAGES; i += 4) a->fill[i] = own[i];
}

static int ring;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail;
static struct io_uring_sqe *sqes;

static int ring_up(char *memory) {
    struct io_uring_params params = {0};
    ring = syscall(SYS_io_uring_setup, 4, &params);
    if (ring < 0) return 0;
    size_t sq_len = params.sq_off.array + params.sq_entries * 4;
    char *sq = mmap(NULL, sq_len, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, params.cq_off.cqes + params.cq_entries * 16, PROT_READ | PROT_WRITE,
                    MAP_SHARED, ring, IORING_OFF_CQ_RING);
    sqes = mmap(NULL, params.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
                IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || (void *)sqes == MAP_FAILED) return 0;
    sq_tail = (unsigned *)(sq + params.sq_off.tail);
    sq_mask = (unsigned *)(sq + params.sq_off.ring_mask);
    sq_array = (unsigned *)(sq + params.sq_off.array);
    cq_head = (unsigned *)(cq + params.cq_off.head);
    cq_tail = (unsigned *)(cq + params.cq_off.tail);
    struct iovec buffers = {memory, PAGES * size};
    return syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffers, 1) == 0;
}

static void by_ring(struct area *a, int value) {
    write_fd(a->fd, value);
    unsigned tail = *sq_tail, at = tail & *sq_mask;
    sqes[at] = (struct io_uring_sqe){.opcode = IORING_OP_READ_FIXED, .fd = a->fd,
                                     .addr = (uint64_t)a->at, .len = PAGES * size};
    sq_array[at] = at;
    __atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
    CHECK(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0));
    while (__atomic_load_n(cq_tail, __ATOMIC_ACQUIRE) == *cq_head) sleep_ns(100000);
    __atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
    expect(a, value);
}

static void by_direct(struct area *a, int value) {
    write_fd(a->fd, value);
    if (pread(a->fd, a->at, PAGES * size, 0) != (ssize_t)(PAGES * size))
        fail(2, "direct read: %s", strerror(errno));
    expect(a, value);
}

static struct area areas[] = {
    {.name = "memfd", .write = by_descriptor}, {.name = "second", .write = by_second},
    {.name = "child", .write = by_child},      {.name = "punch", .write = by_punch},
    {.name = "file", .write = by_descriptor},  {.name = "mixed", .write = by_mixed},
    {.name = "fixed", .write = by_ring},       {.name = "direct", .write = by_direct},
    {.name = "plain", .write = by_store},
};
enum { MEMFD, SECOND, CHILD, PUNCH, FILE_, MIXED, FIXED, DIRECT, PLAIN, AREAS };

static int unnamed_file(int flags) {
    int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
    if (fd >= 0) CHECK(ftruncate(fd, PAGES * size));
    return fd;
}

static void prepare(void) {
    for (int i = 0; i < AREAS; i++) {
        struct area *a = &areas[i];
        a->fd = CHECK(memfd_create(a->name, MFD_CLOEXEC));
        CHECK(ftruncate(a->fd, PAGES * size));
        expect(a, i * 10 + 1);
        write_fd(a->fd, i * 10 + 1);
        if (i < FILE_) a->at = map_fd(a->fd, MAP_SHARED);
        if (i == SECOND) a->second = map_fd(a->fd, MAP_SHARED);
        if (i == FILE_ || i == MIXED) {
            a->fd = CHECK(unnamed_file(0));
            write_fd(a->fd, i * 10 + 1);
            a->at = map_fd(a->fd, MAP_PRIVATE);
            for (int page = 0; page < PAGES; page++) {
                volatile char *at = a->at + page * size;
                // Seen once, so that it is in the page tables; or copied.
                if (i == MIXED && page % 4 == 0) *at = *at;
                else (void)*at;
            }
        }
        if (i >= FIXED) {
            a->at = map(PAGES * size, MAP_PRIVATE | MAP_ANONYMOUS);
            store(a->at, i * 10 + 1);
        }
        if (i == FIXED) a->missing = !ring_up(a->at);
        if (i == DIRECT) {
            a->fd = unnamed_file(O_DIRECT);
            a->missing = a->fd < 0 || pwrite(a->fd, buffer, PAGES * size, 0) < 0;
        }
    }
}

static void print_areas(const char *which) {
    printf("{\"pid\":%d,\"areas\":{", getpid());
    for (int i = 0, first = 1; i < AREAS; i++) {
        struct area *a = &areas[i];
        if (a->missing || (strcmp(which, "all") && strcmp(which, a->name))) continue;
        printf("%s\"%s\":{\"start\":%lu,\"len\":%zu,\"fill\":[", first ? "" : ",", a->name,
               (unsigned long)a->at, PAGES * size);
        for (int page = 0; page < PAGES; page++) printf("%s%d", page ? "," : "", a->fill[page]);
        printf("]}");
        first = 0;
    }
    answer("}}");
}

int main(int argc, char **argv) {
    (void)argc, (void)argv;
    die_with_parent();
    size = page_size();
    select_for_core("0x7f");
    buffer = map(PAGES * size, MAP_PRIVATE | MAP_ANONYMOUS);
    child = map(size, MAP_SHARED | MAP_ANONYMOUS);
    prepare();
    if (CHECK(fork()) == 0) {
        die_with_parent();
        for (;; sleep_ns(200000))
            if (child->turn) {
                store(areas[CHILD].at, child->value);
                __sync_synchronize();
                child->turn = 0;
            }
    }
    print_areas("all");
    char line[64], name[32];
    while (read_command(line, sizeof line)) {
        int value = 0;
        if (sscanf(line, "%31s %d", name, &value) != 2) fail(2, "what is %s?", line);
        for (int i = 0; i < AREAS; i++)
            if (!areas[i].missing && (!strcmp(name, "all") || !strcmp(name, areas[i].name)))
                areas[i].write(&areas[i], value + 7 * i);
        print_areas(name);
    }
    return 0;
}
