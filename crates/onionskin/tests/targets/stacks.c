// stacks: threads deep in calls, with variables that a debugger can be asked for.
//
//   --threads N   threads (3); thread i (1..=N) is in leaf(depth 0), called by nest(depth 1..=4),
//                 and has the local `secret` = 1000 * i + depth in each
//
// Globals: `the_answer` 42, `text` "onion skin", `list` of three cells with values 10, 20, 30,
// `table` of 4096 ints with table[i] = i * i, in thread i `own` (thread-local) = i.
// Built without optimisation, so that frames are as written.
#pragma GCC optimize("O0")
#include "common.h"

struct cell { int value; struct cell *next; };
int the_answer = 42;
const char *text = "onion skin";
struct cell *list;
int table[4096];
__thread int own;
static volatile int ready;

__attribute__((noinline)) static double leaf(long thread, double weight) {
    volatile int secret = 1000 * thread;
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        // By turns asleep and at work.
        if (thread % 2) sleep_ns(1000000);
        weight += secret;
    }
    return weight;
}

__attribute__((noinline)) static double nest(long thread, int depth, double weight) {
    volatile int secret = 1000 * thread + depth;
    double result = depth == 1 ? leaf(thread, weight) : nest(thread, depth - 1, weight + 1);
    return result + secret;
}

static void *body(void *argument) {
    own = (long)argument;
    nest((long)argument, 4, 0.5);
    return NULL;
}

int main(int argc, char **argv) {
    die_with_parent();
    long threads = option(argc, argv, "threads", 3);
    for (int i = 0; i < 4096; i++) table[i] = i * i;
    for (int value = 30; value > 0; value -= 10) {
        struct cell *cell = malloc(sizeof *cell);
        *cell = (struct cell){value, list};
        list = cell;
    }
    for (long i = 1; i <= threads; i++) start_thread(body, (void *)i);
    while (ready != threads) sleep_ns(1000000);
    answer("{\"pid\":%d}", getpid());
    char line[64];
    while (read_command(line, sizeof line)) answer("{\"ready\":%d}", ready);
    return 0;
}
