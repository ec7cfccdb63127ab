// sparse: a huge reservation of which little is used.
//
//   --gib N     GiB of MAP_NORESERVE memory (1024)
//   --pages N   pages that are written, evenly spread (4000)
//
// Page i (0..pages) lies at start + i * step and begins with mix(i), the rest is zeros.
// Commands: report: {"rss_kb":n,"pte_kb":n}; touch (writes one page more: number `pages`).
#include "common.h"

int main(int argc, char **argv) {
    die_with_parent();
    size_t len = (size_t)option(argc, argv, "gib", 1024) << 30;
    long pages = option(argc, argv, "pages", 4000);
    char *start = map(len, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    CHECK(madvise(start, len, MADV_NOHUGEPAGE));
    size_t step = len / (pages + 1000) / page_size() * page_size();
    for (long i = 0; i < pages; i++) *(uint64_t *)(start + i * step) = mix(i);
    answer("{\"pid\":%d,\"start\":%lu,\"len\":%lu,\"step\":%lu,\"pages\":%ld}", getpid(),
           (unsigned long)start, len, step, pages);
    char line[64];
    while (read_command(line, sizeof line)) {
        if (strcmp(line, "touch") == 0) *(uint64_t *)(start + pages * step) = mix(pages), pages++;
        for (long i = 0; i < pages; i++)
            if (*(uint64_t *)(start + i * step) != mix(i)) fail(3, "sparse: page %ld changed", i);
        answer("{\"rss_kb\":%ld,\"pte_kb\":%ld,\"pages\":%ld}", status_kb("VmRSS"),
               status_kb("VmPTE"), pages);
    }
    return 0;
}
