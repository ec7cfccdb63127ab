// bank: moves amounts between accounts so that a frozen image can be audited at any instruction.
//
//   --threads N   threads that transfer (4)
//   --mib N       MiB of accounts in each kind of memory (16)
//   --rate N      transfers a second and thread, 0 without pause (0)
//   --hot N       percent of accounts that take nine of ten transfers (10)
//   --seed N      of the random numbers (1)
//   --hugetlb     accounts in hugetlb memory too (left out where the pool has no pages)
//
// A transfer locks two accounts and writes down what they held in its thread's log, then sets
// `active`, changes both, and clears `active` before it unlocks. So in any image: take the
// accounts of each active log back to what the log says, and the sums are those of the start.
//   balance: the sum over all accounts is `total`
//   moves:   the sum over all accounts is twice the sum of `count` over the logs
//
// struct account { i64 balance; u64 moves; u32 lock; } every 1024 bytes of a region
// struct log     { u64 active, from, to; i64 old_from, old_to; u64 moves_from, moves_to, count,
//                  old_count; } every `log_stride` bytes; accounts are numbered across regions
//
// Commands: check (stops all threads for a moment and audits), report. Exit 3: a sum is broken.
#include "common.h"

enum { STRIDE = 1024, THREADS_MAX = 64, REGIONS_MAX = 3 };
struct account { int64_t balance; uint64_t moves; uint32_t lock; };
struct log {
    uint64_t active, from, to;
    int64_t old_from, old_to;
    uint64_t moves_from, moves_to, count, old_count;
};
struct region { const char *kind; char *start; size_t len; };

static struct region regions[REGIONS_MAX];
static int region_count, threads;
static size_t per_region, log_stride;
static char *logs;
static long rate, hot;
static uint64_t seed, accounts;
static int64_t total;
static int pausing, paused;

static struct account *account(uint64_t index) {
    return (struct account *)(regions[index / per_region].start + index % per_region * STRIDE);
}

static struct log *log_of(long thread) { return (struct log *)(logs + thread * log_stride); }

static int try_lock(struct account *a) {
    return !__atomic_exchange_n(&a->lock, 1, __ATOMIC_ACQUIRE);
}
static void unlock(struct account *a) { __atomic_store_n(&a->lock, 0, __ATOMIC_RELEASE); }

static uint64_t pick(uint64_t *random) {
    uint64_t hot_accounts = accounts * hot / 100;
    if (hot_accounts && next_random(random) % 10) {
        // Spread over all regions.
        uint64_t at = next_random(random) % hot_accounts;
        return at % region_count * per_region + at / region_count;
    }
    return next_random(random) % accounts;
}

static void transfer(struct log *log, uint64_t *random) {
    uint64_t from = pick(random), to = pick(random);
    if (from == to) return;
    struct account *a = account(from), *b = account(to);
    if (!try_lock(a)) return;
    if (!try_lock(b)) {
        unlock(a);
        return;
    }
    int64_t amount = next_random(random) % 1000;
    log->from = from, log->to = to;
    log->old_from = a->balance, log->old_to = b->balance;
    log->moves_from = a->moves, log->moves_to = b->moves;
    log->old_count = log->count;
    __atomic_store_n(&log->active, 1, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&a->balance, a->balance - amount, __ATOMIC_RELAXED);
    __atomic_store_n(&a->moves, a->moves + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&b->balance, b->balance + amount, __ATOMIC_RELAXED);
    __atomic_store_n(&b->moves, b->moves + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&log->count, log->count + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&log->active, 0, __ATOMIC_RELEASE);
    unlock(b);
    unlock(a);
}

static void *teller(void *argument) {
    long self = (long)argument;
    uint64_t random = mix(seed * 1000 + self);
    uint64_t start = now_ns(), done = 0;
    for (;;) {
        for (int i = 0; i < 64; i++, done++) transfer(log_of(self), &random);
        if (__atomic_load_n(&pausing, __ATOMIC_ACQUIRE)) {
            __atomic_add_fetch(&paused, 1, __ATOMIC_SEQ_CST);
            while (__atomic_load_n(&pausing, __ATOMIC_ACQUIRE)) sleep_ns(100000);
            __atomic_sub_fetch(&paused, 1, __ATOMIC_SEQ_CST);
        }
        if (rate) {
            uint64_t due = start + done * 1000000000ull / rate, now = now_ns();
            if (due > now) sleep_ns(due - now);
        }
    }
}

// Stops all tellers between two transfers and audits; returns the number of transfers.
static uint64_t audit(void) {
    __atomic_store_n(&pausing, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&paused, __ATOMIC_SEQ_CST) != threads) sleep_ns(50000);
    int64_t sum = 0;
    uint64_t moves = 0, count = 0;
    for (uint64_t i = 0; i < accounts; i++) sum += account(i)->balance, moves += account(i)->moves;
    for (long i = 0; i < threads; i++) count += log_of(i)->count;
    if (sum != total || moves != 2 * count)
        fail(3, "bank: sum %ld of %ld, moves %lu of %lu", sum, total, moves, 2 * count);
    __atomic_store_n(&pausing, 0, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&paused, __ATOMIC_SEQ_CST)) sleep_ns(50000);
    return count;
}

static void add_region(const char *kind, size_t len, int flags) {
    char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at != MAP_FAILED) regions[region_count++] = (struct region){kind, at, len};
}

int main(int argc, char **argv) {
    die_with_parent();
    threads = option(argc, argv, "threads", 4);
    if (threads < 1 || threads > THREADS_MAX) fail(2, "1 to %d threads", THREADS_MAX);
    size_t len = (size_t)option(argc, argv, "mib", 16) << 20;
    rate = option(argc, argv, "rate", 0), hot = option(argc, argv, "hot", 10);
    seed = option(argc, argv, "seed", 1);
    add_region("private", len, MAP_PRIVATE | MAP_ANONYMOUS);
    add_region("shared", len, MAP_SHARED | MAP_ANONYMOUS);
    size_t huge = huge_page_size();
    if (flag(argc, argv, "hugetlb") && huge)
        add_region("hugetlb", (len + huge - 1) / huge * huge,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
    per_region = len / STRIDE, accounts = per_region * region_count;
    log_stride = page_size();
    logs = map(threads * log_stride, MAP_PRIVATE | MAP_ANONYMOUS);
    memset(logs, 0, threads * log_stride);
    for (uint64_t i = 0; i < accounts; i++) {
        struct account *a = account(i);
        a->balance = mix(i) % 100000, total += a->balance;
        // Half of what lies between accounts does not compress.
        for (int word = 64; word < 96; word++) ((uint64_t *)a)[word] = mix(i * 128 + word);
    }
    for (long i = 0; i < threads; i++) start_thread(teller, (void *)i);
    printf("{\"pid\":%d,\"threads\":%d,\"total\":%ld,\"stride\":%d,\"per_region\":%zu,"
           "\"logs\":%lu,\"log_stride\":%zu,\"regions\":[",
           getpid(), threads, total, STRIDE, per_region, (unsigned long)logs, log_stride);
    for (int i = 0; i < region_count; i++)
        printf("%s{\"kind\":\"%s\",\"start\":%lu,\"len\":%zu}", i ? "," : "", regions[i].kind,
               (unsigned long)regions[i].start, regions[i].len);
    answer("]}");
    char line[64];
    while (read_command(line, sizeof line)) answer("{\"transfers\":%lu}", audit());
    audit();
    return 0;
}
