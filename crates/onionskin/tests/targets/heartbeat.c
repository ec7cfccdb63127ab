// heartbeat: every thread writes the time, again and again, and remembers its largest gap.
//
//   --threads N       threads that beat (2)
//   --mib N           MiB of resident memory, written once at the start (64)
//   --hot-percent N   percent of the pages that the beats write to (1)
//   --mode random|sequential   order in which they are written (random)
//   --writes N        pages written a beat (1)
//   --work N          rounds of arithmetic a beat (200)
//   --period-us N     pause between beats, 0 without (0)
//   --thp             asks for huge pages
//   --file PATH       shared file that holds the beats (an unnamed one)
//
// The file holds, every 16 KiB, for a thread: u64 beats, last_ns, largest_gap_ns, largest_at_ns,
// writes; u64 0[3]; then a ring of the last 2000 times (the beat's number modulo 2000).
// Commands: report (one line of JSON; gaps of each thread), reset (forgets the gaps), fork (times a
// fork() of the process itself; the child ends at once).
#include "common.h"

enum { RING = 2000, THREADS_MAX = 256, SLOT = 16384 };
struct beats {
    volatile uint64_t beats, last_ns, largest_gap_ns, largest_at_ns, writes, reset, unused[2];
    volatile uint64_t ring[RING];
};
static char *slots, *memory;
static long threads, pages, hot_pages, writes, work, period_us;
static int sequential;

static void *beat(void *argument) {
    long self = (long)argument;
    struct beats *mine = (struct beats *)(slots + self * SLOT);
    uint64_t random = mix(self), at = hot_pages * self / threads, page = page_size(), sink = 1;
    mine->last_ns = now_ns();
    for (;;) {
        for (long i = 0; i < work; i++) sink = mix(sink);
        for (long i = 0; i < writes && hot_pages; i++) {
            at = sequential ? at + 1 : next_random(&random);
            // The hot pages lie evenly spread.
            uint64_t hot = at % hot_pages;
            *(volatile uint64_t *)(memory + hot * pages / hot_pages * page + self * 8) = sink;
        }
        mine->writes += writes;
        uint64_t now = now_ns(), gap = now - mine->last_ns;
        if (mine->reset) mine->largest_gap_ns = mine->reset = 0;
        else if (gap > mine->largest_gap_ns) mine->largest_gap_ns = gap, mine->largest_at_ns = now;
        mine->ring[mine->beats % RING] = now;
        mine->last_ns = now;
        mine->beats++;
        if (period_us) sleep_ns(period_us * 1000);
    }
}

static void report(void) {
    uint64_t beats = 0, written = 0, largest = 0;
    printf("{\"at_ns\":%lu,\"gaps_ns\":[", now_ns());
    for (long i = 0; i < threads; i++) {
        struct beats *of = (struct beats *)(slots + i * SLOT);
        uint64_t gap = of->largest_gap_ns;
        beats += of->beats, written += of->writes;
        if (gap > largest) largest = gap;
        printf("%s%lu", i ? "," : "", gap);
    }
    answer("],\"largest_gap_ns\":%lu,\"beats\":%lu,\"writes\":%lu}", largest, beats, written);
}

static void time_fork(void) {
    uint64_t began = now_ns();
    pid_t child = CHECK(fork());
    if (child == 0) _exit(0);
    uint64_t took = now_ns() - began;
    CHECK(waitpid(child, NULL, 0));
    answer("{\"fork_ns\":%lu}", took);
}

int main(int argc, char **argv) {
    die_with_parent();
    threads = option(argc, argv, "threads", 2);
    if (threads < 1 || threads > THREADS_MAX) fail(2, "1 to %d threads", THREADS_MAX);
    pages = (option(argc, argv, "mib", 64) << 20) / page_size();
    double percent = strtod(word_option(argc, argv, "hot-percent", "1"), NULL);
    hot_pages = pages * percent / 100;
    writes = option(argc, argv, "writes", 1), work = option(argc, argv, "work", 200);
    period_us = option(argc, argv, "period-us", 0);
    sequential = strcmp(word_option(argc, argv, "mode", "random"), "sequential") == 0;
    const char *path = word_option(argc, argv, "file", NULL);
    int file = CHECK(path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)
                          : memfd_create("heartbeat", MFD_CLOEXEC));
    CHECK(ftruncate(file, threads * SLOT));
    slots = mmap(NULL, threads * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (slots == MAP_FAILED) fail(2, "the file can't be mapped");
    memset(slots, 0, threads * SLOT);
    close(file);
    memory = map(pages * page_size() + 1, MAP_PRIVATE | MAP_ANONYMOUS);
    if (flag(argc, argv, "thp")) CHECK(madvise(memory, pages * page_size(), MADV_HUGEPAGE));
    for (long i = 0; i < pages; i++) {
        // Half of each page does not compress.
        uint64_t *words = (uint64_t *)(memory + i * page_size());
        for (size_t w = 0; w < page_size() / 16; w++) words[w] = mix(i * (page_size() / 8) + w);
        memset(words + page_size() / 16, 'h', page_size() / 2);
    }
    for (long i = 0; i < threads; i++) start_thread(beat, (void *)i);
    answer("{\"pid\":%d,\"memory\":%lu,\"len\":%lu,\"hot_pages\":%ld,\"beats\":%lu,\"slot\":%d}",
           getpid(), (unsigned long)memory, pages * page_size(), hot_pages, (unsigned long)slots,
           SLOT);
    char line[64];
    while (read_command(line, sizeof line)) {
        if (strcmp(line, "fork") == 0) {
            time_fork();
            continue;
        }
        if (strcmp(line, "reset") == 0)
            for (long i = 0; i < threads; i++) ((struct beats *)(slots + i * SLOT))->reset = 1;
        report();
    }
    return 0;
}
