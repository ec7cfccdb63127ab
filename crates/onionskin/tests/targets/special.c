// special: memory of every kind, with known content.
//
//   --hugetlb      hugetlb memory too (left out where the pool has no pages)
//   --mappings N   N mappings of one page besides, alternately protected so that they don't merge
//
// Ready line: {"areas":{NAME:{"start":n,"len":n,"fill":[..],"core":true}},"mappings":{..}}. `fill`
// says of each base page: the byte that it is filled with, or -1 where nothing can be read. `core`
// tells whether a dump with the usual coredump_filter (0x33) takes the area.
// Commands: check (looks at all that it can read): {"ok":true}. Exit 3: something changed.
#include "common.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
enum { AREAS_MAX = 40, PAGES_MAX = 2048 };
struct area {
    const char *name;
    char *at;
    long pages;
    int core, readable;
    short fill[PAGES_MAX];
};
static struct area areas[AREAS_MAX];
static int count;
// The sizes of a page and of a huge one.
static size_t size, huge;

static struct area *add(const char *name, char *at, long pages, int core) {
    if (at == MAP_FAILED) return NULL;
    struct area *a = &areas[count++];
    *a = (struct area){.name = name, .at = at, .pages = pages, .core = core, .readable = 1};
    return a;
}

static void fill(struct area *a) {
    for (long i = 0; i < a->pages; i++) {
        a->fill[i] = 1 + (count * 31 + i) % 250;
        memset(a->at + i * size, a->fill[i], size);
    }
}

static char *anonymous(long pages, int flags) {
    return mmap(NULL, pages * size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
}

static struct area *private(const char *name) {
    struct area *a = add(name, anonymous(8, MAP_PRIVATE), 8, 1);
    fill(a);
    return a;
}

static void of_files(void) {
    int memfd = CHECK(memfd_create("special", MFD_CLOEXEC));
    CHECK(ftruncate(memfd, 8 * size));
    fill(add("memfd", mmap(NULL, 8 * size, 3, MAP_SHARED, memfd, 0), 8, 1));
    char name[] = "special-file-XXXXXX";
    int file = CHECK(mkstemp(name));
    CHECK(ftruncate(file, 16 * size));
    struct area *a = add("file_shared", mmap(NULL, 8 * size, 3, MAP_SHARED, file, 0), 8, 0);
    fill(a);
    // The same file under private mappings: as it is, and with pages of its own. A mapping with
    // any page of its own is taken whole.
    struct area *same = add("file_private", mmap(NULL, 8 * size, 3, MAP_PRIVATE, file, 0), 8, 0);
    memcpy(same->fill, a->fill, sizeof a->fill);
    struct area *own = add("file_modified", mmap(NULL, 8 * size, 3, MAP_PRIVATE, file, 0), 8, 1);
    memcpy(own->fill, a->fill, sizeof a->fill);
    for (int i = 1; i < 8; i += 3) {
        own->fill[i] = 200 + i;
        memset(own->at + i * size, own->fill[i], size);
    }
    unlink(name);
    // Gone from its directory: it counts as anonymous shared memory now.
    a->core = 1;
    close(file);
    // Behind the end of a file nothing can be read.
    int shortened = CHECK(memfd_create("short", MFD_CLOEXEC));
    CHECK(ftruncate(shortened, 8 * size));
    a = add("past_end", mmap(NULL, 8 * size, 3, MAP_SHARED, shortened, 0), 8, 1);
    fill(a);
    CHECK(ftruncate(shortened, 4 * size));
    for (int i = 4; i < 8; i++) a->fill[i] = -1;
    a->readable = 0;
}

static void of_advice(void) {
    struct area *a = private("dont_dump");
    CHECK(madvise(a->at, a->pages * size, MADV_DONTDUMP));
    a->core = 0;
    CHECK(madvise(private("dont_fork")->at, 8 * size, MADV_DONTFORK));
    CHECK(madvise(private("wipe_on_fork")->at, 8 * size, MADV_WIPEONFORK));
    a = private("mergeable");
    madvise(a->at, a->pages * size, MADV_MERGEABLE);
    a = private("guard");
    int guarded = 0;
    for (int i = 1; i < 8; i += 2)
        if (madvise(a->at + i * size, size, MADV_GUARD_INSTALL) == 0) a->fill[i] = -1, guarded = 1;
    a->readable = !guarded;
    a = private("discarded");
    CHECK(madvise(a->at + 2 * size, 3 * size, MADV_DONTNEED));
    for (int i = 2; i < 5; i++) a->fill[i] = 0;
    if (mlock(private("locked")->at, 8 * size)) count--;
    if (huge == 0 || huge / size > PAGES_MAX) return;
    char *wide = map(3 * huge, MAP_PRIVATE | MAP_ANONYMOUS);
    wide = (char *)(((uintptr_t)wide + huge - 1) & ~(uintptr_t)(huge - 1));
    CHECK(madvise(wide, huge, MADV_HUGEPAGE));
    fill(add("thp", wide, huge / size, 1));
}

static void of_protection(void) {
    struct area *a = private("prot_none");
    CHECK(mprotect(a->at, a->pages * size, PROT_NONE));
    a->readable = 0;
    CHECK(mprotect(private("read_only")->at, 8 * size, PROT_READ));
    CHECK(mprotect(private("executable")->at, 8 * size, PROT_READ | PROT_EXEC));
    a = add("never_touched", anonymous(8, MAP_PRIVATE), 8, 1);
    // Loaded from, never stored to: the kernel's page of zeros.
    a = add("zero_page", anonymous(8, MAP_PRIVATE), 8, 1);
    for (int i = 0; i < 8; i++) (void)*(volatile char *)(a->at + i * size);
    a = add("reserved", mmap(NULL, 8 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 8, 1);
    a->readable = 0;
#ifdef SYS_memfd_secret
    int secret = syscall(SYS_memfd_secret, 0);
    if (secret >= 0 && ftruncate(secret, 8 * size) == 0) {
        a = add("secret", mmap(NULL, 8 * size, 3, MAP_SHARED, secret, 0), 8, 0);
        if (a) {
            fill(a);
            for (int i = 0; i < 8; i++) a->fill[i] = -1;
            a->readable = 0;
        }
    }
#endif
}

static void of_sharing(int hugetlb) {
    fill(add("shmem", anonymous(8, MAP_SHARED), 8, 1));
    struct area *a = add("shmem_partly", anonymous(8, MAP_SHARED), 8, 1);
    memset(a->at + 3 * size, 9, size), a->fill[3] = 9;
    fill(add("grows_down", anonymous(8, MAP_PRIVATE | MAP_GROWSDOWN), 8, 1));
    long pages = huge / size;
    if (!hugetlb || pages > PAGES_MAX) return;
    a = add("hugetlb_private", anonymous(pages, MAP_PRIVATE | MAP_HUGETLB), pages, 1);
    if (a) fill(a);
    a = add("hugetlb_shared", anonymous(pages, MAP_SHARED | MAP_HUGETLB), pages, 0);
    if (a) fill(a);
}

static void print(char *many, long mappings) {
    printf("{\"pid\":%d,\"page_size\":%zu,\"mappings\":{\"start\":%lu,\"count\":%ld},\"areas\":{",
           getpid(), size, (unsigned long)many, mappings);
    for (int i = 0; i < count; i++) {
        struct area *a = &areas[i];
        printf("%s\"%s\":{\"start\":%lu,\"len\":%lu,\"core\":%s,\"fill\":[", i ? "," : "", a->name,
               (unsigned long)a->at, a->pages * size, a->core ? "true" : "false");
        for (long page = 0; page < a->pages; page++) printf("%s%d", page ? "," : "", a->fill[page]);
        printf("]}");
    }
    answer("}}");
}

static void check(void) {
    for (int i = 0; i < count; i++)
        for (long page = 0; areas[i].readable && page < areas[i].pages; page++)
            for (size_t byte = 0; byte < size; byte += 64)
                if ((unsigned char)areas[i].at[page * size + byte] != areas[i].fill[page])
                    fail(3, "special: %s, page %ld changed", areas[i].name, page);
    answer("{\"ok\":true}");
}

// Uses the stack some way further down, so that there is room below main's large frame: a stack
// that ends right below its pointer has none for the frame of an injected call, and is refused.
__attribute__((noinline)) static void deepen(void) {
    volatile char deep[65536];
    for (size_t i = 0; i < sizeof deep; i += 512) deep[i] = 0;
}

int main(int argc, char **argv) {
    die_with_parent();
    size = page_size(), huge = huge_page_size();
    long mappings = option(argc, argv, "mappings", 0);
    of_files(), of_advice(), of_protection(), of_sharing(flag(argc, argv, "hugetlb"));
    // A stack that holds something known in the middle of the main thread's.
    char on_stack[4 * 65536];
    char *aligned = (char *)(((uintptr_t)on_stack + size - 1) & ~(uintptr_t)(size - 1));
    fill(add("stack", aligned, 2, 1));
    deepen();
    char *many = mappings ? map(mappings * size, MAP_PRIVATE | MAP_ANONYMOUS) : NULL;
    for (long i = 0; i < mappings; i++) {
        *(uint64_t *)(many + i * size) = mix(i);
        if (i % 2 && mprotect(many + i * size, size, PROT_READ)) {
            // The kernel's limit (vm.max_map_count) is met.
            mappings = i;
            break;
        }
    }
    print(many, mappings);
    char line[64];
    while (read_command(line, sizeof line)) check();
    return 0;
}
