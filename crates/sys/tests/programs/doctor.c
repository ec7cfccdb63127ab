// doctor CASE: a process that something stands in the way of; says a line and waits to be killed.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void ready(void)
{
    write(1, "x\n", 2);
    for (;;)
        pause();
}

static void vfork_in_flight(void)
{
    if (vfork() == 0) {
        prctl(PR_SET_PDEATHSIG, 9);
        ready();
    }
}

static void filter_and_userfaultfd(void)
{
    struct sock_filter allow[] = {{6, 0, 0, SECCOMP_RET_ALLOW}};
    struct sock_fprog program = {1, allow};
    syscall(SYS_userfaultfd, 1);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, 2, &program);
    ready();
}

static void kills_userfaultfd(void)
{
    struct sock_filter one[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_userfaultfd},
        {BPF_RET, 0, 0, SECCOMP_RET_KILL_PROCESS},
        {BPF_RET, 0, 0, SECCOMP_RET_ALLOW},
    };
    struct sock_fprog program = {4, one};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, 2, &program);
    ready();
}

int main(int count, char **args)
{
    if (count == 2 && strcmp(args[1], "vfork") == 0)
        vfork_in_flight();
    if (count == 2 && strcmp(args[1], "filter") == 0)
        filter_and_userfaultfd();
    if (count == 2 && strcmp(args[1], "kills_userfaultfd") == 0)
        kills_userfaultfd();
    return 2;
}
