// flags: -std=c99 -Wall -Wextra -Werror -pedantic -O1 -g -pthread -Iinclude -L{library} -lmanhole -Wl,-rpath,{library}
/*
 * Calls the C interface as its standard input says, a line each, and answers with a line: the call and what it
 * returned. Its registered commands do what a test needs of them.
 */
#include "sentinel.h"
#include <manhole.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int gate[2];
static volatile long calls;

static void answer(const char *what, long result)
{
    char line[256];
    snprintf(line, sizeof line, "%s %ld", what, result);
    say(line);
}

#define COMMAND(name) static int name(struct manhole_call *call, int argc, const char *const *argv, void *user)
#define UNUSED (void)call, (void)argc, (void)argv, (void)user

COMMAND(echo)
{
    UNUSED;
    for (int i = 0; i < argc; i++)
        if (manhole_printf(call, "%s%s", i ? "|" : "", argv[i]))
            return 1;
    return argv[argc] != NULL;
}

COMMAND(status)
{
    UNUSED;
    return argc > 1 ? atoi(argv[1]) : 0;
}

/* So many megabytes, in lines of 64 bytes, and one long one. */
COMMAND(flood)
{
    UNUSED;
    long lines = argc > 1 ? atol(argv[1]) << 14 : 0;
    for (long i = 0; i < lines; i++)
        if (manhole_printf(call, "%063ld\n", i)) {
            answer("flood stopped", manhole_write(call, "x", 1));
            return 1;
        }
    return manhole_printf(call, "%05000d\n", 7) != 0;
}

COMMAND(hang)
{
    UNUSED;
    manhole_printf(call, "hanging");
    say("hang begins");
    while (!manhole_cancelled(call))
        usleep(1000);
    answer("hang cancelled", manhole_write(call, "x", 1));
    return 0;
}

/* Until the line `go`, whoever goes meanwhile. */
COMMAND(gated)
{
    UNUSED;
    char byte;
    say("gated begins");
    while (read(gate[0], &byte, 1) < 0)
        continue;
    say("gated ends");
    return 0;
}

COMMAND(forever)
{
    UNUSED;
    say("forever begins");
    sleep_for_ever();
}

COMMAND(forbidden)
{
    UNUSED;
    return manhole_printf(call, "release %d, install %d, unregister %d", manhole_release(),
                          manhole_install("strict=False"), manhole_unregister_command(argv[0])) != 0;
}

COMMAND(misuse)
{
    UNUSED;
    return manhole_printf(call, "%d %d %d %d", manhole_write(NULL, "x", 1), manhole_write(call, NULL, 1),
                          manhole_write(call, NULL, 0), manhole_cancelled(call)) != 0;
}

COMMAND(leave)
{
    UNUSED;
    manhole_printf(call, "leaving\n");
    exit(7);
}

/* What a forked child may and may not do, and how it ends when it returns. */
COMMAND(forking)
{
    UNUSED;
    int wait_status;
    pid_t child = fork();
    if (child == 0) {
        answer("child writes", manhole_write(call, "x", 1));
        answer("child is cancelled", manhole_cancelled(call));
        return 0;
    }
    waitpid(child, &wait_status, 0);
    return manhole_printf(call, "child ended with %d", WEXITSTATUS(wait_status)) != 0;
}

COMMAND(count)
{
    UNUSED;
    calls++;
    return manhole_printf(call, "counted") != 0;
}

static const struct {
    const char *name;
    manhole_callback *callback;
} KINDS[] = {
    { "echo", echo },           { "outcome", status }, { "flood", flood }, { "hang", hang },       { "gated", gated },
    { "forbidden", forbidden }, { "leave", leave },   { "count", count }, { "misuse", misuse },   { "forking", forking },
    { "forever", forever },
};

/* Before main(), and before or after there is a manhole. */
__attribute__((constructor)) static void register_all(void)
{
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (manhole_register_command(KINDS[i].name, "[WORD...]", "One of the test.\nMore of it.", KINDS[i].callback, 0))
            finish("FAIL register");
}

/* The bad calls, one after another; 0 when each was refused as the header says. */
static int wrong(void)
{
    static char many[2000][16], long_name[70];
    const char *bad_names[] = { 0, "", "1x", "a b", "-x", "a/b", "\xff", long_name };
    int step = 0, i;
    memset(long_name, 'x', 65);
#define MUST(result, expected) if (step++, (result) != (expected)) return step
    for (i = 0; i < 8; i++) {
        MUST(manhole_register_command(bad_names[i], "", "", echo, 0), -EINVAL);
        MUST(manhole_register_variable(bad_names[i], &step, 4), -EINVAL);
    }
    MUST(manhole_register_command("x", "", "", 0, 0), -EINVAL);
    MUST(manhole_register_command("x", "", "\xff", echo, 0), -EINVAL);
    MUST(manhole_register_command("stacks", "", "", echo, 0), -EEXIST);
    MUST(manhole_register_command("exit", "", "", echo, 0), -EEXIST);
    MUST(manhole_register_command("echo", "", "", echo, 0), -EEXIST);
    MUST(manhole_unregister_command("x"), -ENOENT);
    MUST(manhole_unregister_command("stacks"), -ENOENT);
    MUST(manhole_unregister_command(0), -ENOENT);
    MUST(manhole_unregister_variable("x"), -ENOENT);
    MUST(manhole_register_variable("x", 0, 4), -EINVAL);
    MUST(manhole_register_variable("x", &step, 0), 0);
    MUST(manhole_register_variable("x", &step, 4), -EEXIST);
    MUST(manhole_unregister_variable("x"), 0);
    for (i = 0; i < 2000; i++)
        snprintf(many[i], sizeof many[i], "n%d", i);
    for (i = 0; i < 2000 && manhole_register_command(many[i], 0, 0, echo, 0) == 0; i++)
        continue;
    MUST(i + (int)(sizeof KINDS / sizeof *KINDS), 256);
    MUST(manhole_register_command("y", 0, 0, echo, 0), -ENOSPC);
    while (i--)
        MUST(manhole_unregister_command(many[i]), 0);
    for (i = 0; i < 2000 && manhole_register_variable(many[i], &step, 4) == 0; i++)
        continue;
    MUST(i, 1024);
    MUST(manhole_register_variable("y", &step, 4), -ENOSPC);
    while (i--)
        MUST(manhole_unregister_variable(many[i]), 0);
    return 0;
}

/* Kilobytes of `name` in /proc/self/status. */
static long kilobytes(const char *name)
{
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)))
            value = atol(line + strlen(name) + 1);
    if (file)
        fclose(file);
    return value;
}

/* Installs and releases so often, after a warm-up; how many bytes a round leaves behind. */
static long rounds(long count)
{
    long before = 0;
    for (long i = -count / 4; i < count; i++) {
        if (i == 0)
            before = kilobytes("VmRSS");
        if (manhole_install("verbose=False") || manhole_release())
            finish("FAIL a round");
    }
    return (kilobytes("VmRSS") - before) * 1024 / count;
}

/* Replaces a manhole that is just opening, so often; how often the new one's socket is not there. */
static long replacements(long count)
{
    char path[64];
    long missing = 0;
    snprintf(path, sizeof path, "/tmp/manhole-%d", getpid());
    for (long i = 0; i < count; i++) {
        if (manhole_install("verbose=False") || manhole_install("verbose=False, strict=False, start_timeout=10"))
            finish("FAIL a replacement");
        usleep(1000);
        missing += access(path, F_OK) != 0;
        if (manhole_release())
            finish("FAIL a release");
    }
    return missing;
}

static volatile int churning;

static void *churn(void *unused)
{
    (void)unused;
    while (churning) {
        void *code = malloc(64);
        if (manhole_register_command("churn", "", "Comes and goes.", count, code) || manhole_unregister_command("churn"))
            finish("FAIL churn");
        /* As unloaded code would be: nobody may use it now. */
        memset(code, 0xff, 64);
        free(code);
    }
    return 0;
}

static void *unregister_later(void *name)
{
    answer("unregister", manhole_unregister_command(name));
    return 0;
}

static void obey(char *line)
{
    static pthread_t thread;
    static char kept[64];
    char *rest = strchr(line, ' ');
    if (rest)
        *rest++ = 0;
    if (!strcmp(line, "install"))
        answer(line, manhole_install(rest));
    else if (!strcmp(line, "release"))
        answer(line, manhole_release());
    else if (!strcmp(line, "limit")) {
        struct rlimit limit;
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = (rlim_t)atol(rest);
        answer(line, setrlimit(RLIMIT_NOFILE, &limit));
    } else if (!strcmp(line, "wrong"))
        answer(line, wrong());
    else if (!strcmp(line, "variable"))
        answer(line, manhole_register_variable(rest, &calls, sizeof calls));
    else if (!strcmp(line, "novariable"))
        answer(line, manhole_unregister_variable(rest));
    else if (!strcmp(line, "unregister")) {
        /* On a thread of its own: it may wait. */
        snprintf(kept, sizeof kept, "%s", rest);
        pthread_create(&thread, 0, unregister_later, kept);
        pthread_detach(thread);
    } else if (!strcmp(line, "go"))
        answer(line, write(gate[1], "x", 1));
    else if (!strcmp(line, "rounds"))
        answer(line, rounds(atol(rest)));
    else if (!strcmp(line, "replace"))
        answer(line, replacements(atol(rest)));
    else if (!strcmp(line, "churn")) {
        churning = 1;
        answer(line, pthread_create(&thread, 0, churn, 0));
    } else if (!strcmp(line, "calm")) {
        churning = 0;
        pthread_join(thread, 0);
        answer(line, calls > 0);
    } else if (!strcmp(line, "fork")) {
        pid_t child = fork();
        if (child == 0)
            sleep_for_ever();
        answer(line, child);
    } else if (!strcmp(line, "exit"))
        exit(0);
    else
        finish("PASS");
}

int main(void)
{
    char line[256];
    if (pipe(gate))
        finish("FAIL pipe");
    say("ready");
    for (;;) {
        size_t length = 0;
        while (length + 1 < sizeof line && read(0, line + length, 1) == 1 && line[length] != '\n')
            length++;
        line[length] = 0;
        obey(line);
    }
}
