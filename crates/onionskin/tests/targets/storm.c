// storm: a process that keeps changing itself, and checks that it still is what it should be.
//
//   --mode threads  threads are made and end, each after some checked work
//   --mode fork     children are forked, check their copy of memory, and exit
//   --mode vfork    children are vforked and execute /bin/true
//   --mode map      mmap, munmap, mremap, MADV_DONTNEED, mprotect; every live page is checked
//   --mode exec     the process executes itself every --every-ms, not from its first thread
//   --mode die      the process ends after --after-ms: --how exit, segv, kill or thread (its first
//                   thread exits, the others go on)
//   --threads N     how many threads make the storm (2)
//   --seed N        of the random numbers (1)
//
// In mode map the ready line tells where the slots are, so that an image can be audited: a slot
// that is not busy has at `start` so many `pages`, and page i holds, in its first, middle and last
// word, mix(slot number << 32 | i << 24 | gens[i]), or zeros where gens[i] is 0.
//
// struct slot { u64 busy, start, pages; u32 gens[16]; } every 128 bytes.
// Commands: report: {"operations":n,"execs":n}. Exit 3: something was not what it should be.
#include "common.h"

enum { SLOTS = 64, PAGES = 16 };
struct slot {
    volatile uint64_t busy;
    char *start;
    uint64_t pages;
    uint32_t gens[PAGES];
    char pad[40];
};
_Static_assert(sizeof(struct slot) == 128, "a slot takes 128 bytes");

static uint64_t operations, seed;
static long threads;
static struct slot *slots;
static char **arguments;

static void count(void) { __atomic_add_fetch(&operations, 1, __ATOMIC_RELAXED); }

static uint64_t content(uint64_t slot, uint64_t page, uint32_t gen) {
    return gen ? mix(slot << 32 | page << 24 | gen) : 0;
}

static uint64_t *word(struct slot *s, uint64_t page, int which) {
    size_t size = page_size();
    size_t at[] = {0, size / 2, size - 8};
    return (uint64_t *)(s->start + page * size + at[which]);
}

static void check(struct slot *s, uint64_t page) {
    for (int i = 0; i < 3; i++)
        if (*word(s, page, i) != content(s - slots, page, s->gens[page]))
            fail(3, "storm: slot %ld page %lu word %d is %#lx, gen %u", s - slots, page, i,
                 *word(s, page, i), s->gens[page]);
}

static void fill(struct slot *s, uint64_t page) {
    s->gens[page] = (s->gens[page] + 1) & 0xffffff;
    if (s->gens[page] == 0) s->gens[page] = 1;
    for (int i = 0; i < 3; i++) *word(s, page, i) = content(s - slots, page, s->gens[page]);
}

static void change(struct slot *s, uint64_t *random) {
    size_t size = page_size();
    uint64_t dice = next_random(random) % 16, page = s->pages ? next_random(random) % s->pages : 0;
    if (!s->start) {
        s->pages = 1 + next_random(random) % PAGES;
        // Some shared, most private.
        int kind = dice < 4 ? MAP_SHARED : MAP_PRIVATE;
        s->start = map(s->pages * size, kind | MAP_ANONYMOUS);
        memset(s->gens, 0, sizeof s->gens);
    } else if (dice == 0) {
        CHECK(munmap(s->start, s->pages * size));
        s->start = NULL, s->pages = 0;
    } else if (dice == 1) {
        uint64_t pages = 1 + next_random(random) % PAGES;
        // A shared mapping does not grow behind its end: shrink only.
        if (pages > s->pages) pages = s->pages;
        char *moved = mremap(s->start, s->pages * size, pages * size, MREMAP_MAYMOVE);
        if (moved == MAP_FAILED) fail(2, "mremap: %s", strerror(errno));
        s->start = moved, s->pages = pages;
    } else if (dice == 2) {
        char *place = map(s->pages * size, MAP_PRIVATE | MAP_ANONYMOUS);
        char *moved = mremap(s->start, s->pages * size, s->pages * size,
                             MREMAP_MAYMOVE | MREMAP_FIXED, place);
        if (moved != place) fail(2, "mremap to a place: %s", strerror(errno));
        s->start = moved;
    } else if (dice < 5) {
        // Shared memory comes back from its file, private memory as zeros.
        CHECK(madvise(s->start + page * size, size, MADV_DONTNEED));
        if (*word(s, page, 0) == 0) s->gens[page] = 0;
    } else if (dice < 7) {
        CHECK(mprotect(s->start, s->pages * size, PROT_READ));
        for (uint64_t i = 0; i < s->pages; i++) check(s, i);
        CHECK(mprotect(s->start, s->pages * size, PROT_READ | PROT_WRITE));
    } else {
        fill(s, page);
    }
}

static void *mapper(void *argument) {
    long self = (long)argument;
    uint64_t random = mix(seed * 100 + self);
    for (;;) {
        struct slot *s = &slots[self + threads * (next_random(&random) % (SLOTS / threads))];
        __atomic_store_n(&s->busy, 1, __ATOMIC_SEQ_CST);
        change(s, &random);
        for (uint64_t i = 0; i < s->pages; i++) check(s, i);
        __atomic_store_n(&s->busy, 0, __ATOMIC_SEQ_CST);
        count();
    }
}

static __thread uint64_t mine;

static void *short_lived(void *argument) {
    uint64_t value = mix((uint64_t)argument);
    mine = value;
    char *memory = map(1 << 16, MAP_PRIVATE | MAP_ANONYMOUS);
    for (int i = 0; i < 16; i++) memory[i << 12] = (char)(value + i);
    sched_yield();
    for (int i = 0; i < 16; i++)
        if (memory[i << 12] != (char)(value + i)) fail(3, "storm: a thread's memory changed");
    if (mine != value) fail(3, "storm: a thread's own variable changed");
    munmap(memory, 1 << 16);
    return (void *)value;
}

static void *thread_maker(void *unused) {
    (void)unused;
    for (uint64_t round = 0;; round++) {
        pthread_t made[4];
        for (uint64_t i = 0; i < 4; i++) made[i] = start_thread(short_lived, (void *)(round + i));
        for (uint64_t i = 0; i < 4; i++) {
            void *value;
            pthread_join(made[i], &value);
            if ((uint64_t)value != mix(round + i)) fail(3, "storm: a thread's result is wrong");
            count();
        }
    }
}

// Forks without libc's handlers: other threads may hold its locks.
static void *forker(void *argument) {
    enum { WORDS = 1 << 15 };
    uint64_t *memory = map(WORDS * 8, MAP_PRIVATE | MAP_ANONYMOUS);
    for (uint64_t round = (uint64_t)argument << 32;; round++) {
        for (int i = 0; i < WORDS; i += 256) memory[i] = mix(round + i);
        pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (int i = 0; i < WORDS; i += 256)
                if (memory[i] != mix(round + i)) syscall(SYS_exit_group, 1);
            for (int i = 0; i < WORDS; i += 256) memory[i] = 0;
            syscall(SYS_exit_group, 42);
        }
        if (pid < 0) fail(2, "fork: %s", strerror(errno));
        for (int i = 0; i < WORDS; i += 256)
            if (memory[i] != mix(round + i)) fail(3, "storm: the parent's memory changed");
        int status = 0;
        while (waitpid(pid, &status, __WALL) == -1 && errno == EINTR) {}
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 42)
            fail(3, "storm: a forked child ended with %#x", status);
        count();
    }
}

static void *vforker(void *unused) {
    (void)unused;
    for (;;) {
        pid_t pid = vfork();
        if (pid == 0) {
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        if (pid < 0) fail(2, "vfork: %s", strerror(errno));
        int status = 0;
        while (waitpid(pid, &status, 0) == -1 && errno == EINTR) {}
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail(3, "storm: /bin/true ended with %#x", status);
        count();
    }
}

static long every_ms;

static void *executer(void *unused) {
    (void)unused;
    sleep_ns(every_ms * 1000000ull);
    char number[32];
    snprintf(number, sizeof number, "%ld", atol(getenv("STORM_EXECS")) + 1);
    setenv("STORM_EXECS", number, 1);
    execv("/proc/self/exe", arguments);
    fail(2, "exec: %s", strerror(errno));
    return NULL;
}

static void *dirty(void *unused) {
    (void)unused;
    enum { WORDS = 1 << 18 };
    uint64_t *memory = map(WORDS * 8, MAP_PRIVATE | MAP_ANONYMOUS), random = seed;
    for (;;) memory[next_random(&random) % WORDS] = random, count();
}

static void *dier(void *how) {
    sleep_ns(every_ms * 1000000ull);
    if (strcmp(how, "exit") == 0) _exit(0);
    if (strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
    raise(SIGSEGV);
    return NULL;
}

static void run(const char *mode, const char *how) {
    if (strcmp(mode, "map") == 0) slots = map(SLOTS * sizeof *slots, MAP_PRIVATE | MAP_ANONYMOUS);
    if (strcmp(mode, "exec") == 0) start_thread(executer, NULL);
    if (strcmp(mode, "die") == 0 && strcmp(how, "thread")) start_thread(dier, (void *)how);
    for (long i = 0; i < threads; i++) {
        void *(*body)(void *) = strcmp(mode, "threads") == 0 ? thread_maker
                                : strcmp(mode, "fork") == 0  ? forker
                                : strcmp(mode, "vfork") == 0 ? vforker
                                : strcmp(mode, "map") == 0   ? mapper
                                                             : dirty;
        start_thread(body, (void *)i);
    }
    if (strcmp(mode, "die") == 0 && strcmp(how, "thread") == 0) {
        answer("{\"pid\":%d}", getpid());
        pthread_exit(NULL);
    }
}

int main(int argc, char **argv) {
    die_with_parent();
    arguments = argv;
    threads = option(argc, argv, "threads", 2), seed = option(argc, argv, "seed", 1);
    if (threads < 1 || threads > SLOTS) fail(2, "1 to %d threads", SLOTS);
    every_ms = option(argc, argv, "every-ms", option(argc, argv, "after-ms", 50));
    int again = getenv("STORM_EXECS") != NULL;
    if (!again) setenv("STORM_EXECS", "0", 1);
    run(word_option(argc, argv, "mode", "map"), word_option(argc, argv, "how", "segv"));
    if (!again)
        answer("{\"pid\":%d,\"slots\":%lu,\"slot_count\":%d,\"slot_len\":%zu}", getpid(),
               (unsigned long)slots, SLOTS, sizeof *slots);
    char line[64];
    while (read_command(line, sizeof line))
        answer("{\"operations\":%lu,\"execs\":%s}", operations, getenv("STORM_EXECS"));
    return 0;
}
