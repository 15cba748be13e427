/* libmanhole: the C interface. For C99 and C++11, and for programs that link the library, open it with dlopen(), or
 * find it preloaded.
 *
 * The library starts by itself when it is loaded, in whichever way: its constructor reads the environment variable
 * MANHOLE and opens the manhole, unless that says `off`. A program that wants to decide when, and how, is started with
 * MANHOLE='thread=False', or replaces the manhole that is there: manhole_install("strict=False, ...").
 *
 * Versions. manhole_version() is the version of the library that was loaded, MANHOLE_VERSION that of this header.
 * A function keeps its name, its type and its meaning in every later version, and `struct manhole_call` is only ever
 * passed by pointer; new functions are added with a higher version, and error codes may be. The library exports the
 * functions of this header, and in front of libc's _exit() and _Exit(), to remove its socket, and no other symbol.
 *
 * Without linking, in a program that may be preloaded or not: weak symbols, which are NULL when nobody has them,
 *
 *     #include <manhole.h>
 *     #pragma weak manhole_register_command
 *     ...
 *     if (manhole_register_command)
 *         manhole_register_command("stats", "", "Counters.", stats, NULL);
 *
 * or a pointer, from RTLD_DEFAULT or from the handle of dlopen("libmanhole.so", RTLD_NOW):
 *
 *     int (*install)(const char *);
 *     *(void **)&install = dlsym(RTLD_DEFAULT, "manhole_install");
 *     if (install)
 *         install("socket_path=/run/app.manhole");
 *
 * What a callback calls is needed in the same way; manhole_vprintf_by() takes the pointer to manhole_write().
 *
 * Errors are negative numbers of errno.h; errno itself is left alone. The functions for registration may be called
 * before there is a manhole, for instance by a library's constructor; what is registered outlives a release, comes back
 * with the next install, and is inherited by a forked child. All strings are copied.
 *
 * No function may be called between vfork() and exec, nor by a child that was made without fork(), as by raw clone().
 */
#ifndef MANHOLE_H
#define MANHOLE_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* The version that this header describes: major * 10000 + minor * 100 + patch. */
#define MANHOLE_VERSION 100

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Installing ---------------------------------------------------------------------------------------------- */

/* The version of the loaded library, counted as MANHOLE_VERSION is.
 *
 * Context: any; async-signal-safe. Thread-safe. */
int manhole_version(void);

/* Opens the manhole of this process: two threads, one Unix socket.
 *
 * options: the text that MANHOLE would hold ("verbose=False, max_frames=64"), NUL-terminated. NULL or
 * "" stands for the options in MANHOLE if that says thread=False, else for the defaults.
 *
 * Returns 0, or a negative errno, and logs the reason in one line:
 *   -EINVAL    an option is unknown, repeated, or has a value that it does not take
 *   -EALREADY  this process has a manhole and strict is True (the default); strict=False releases that one first
 *   -EAGAIN    no thread could be created
 *   -EDEADLK   called on a thread of the manhole that is there, which cannot wait for its own end
 *   -EBUSY     the manhole that is there cannot be reached; it stays
 * 0 does not promise a socket: one that cannot be opened (the path is taken, /tmp is full) is logged.
 *
 * Context: any thread that may call malloc and pthread_create; not a signal handler. Thread-safe. */
int manhole_install(const char *options);

/* Undoes the install: clients are disconnected, the socket is removed, the threads end, signals get the dispositions
 * back that they had. Fork handlers stay registered and do nothing. manhole_install() may follow; an install and its
 * release leave less than 1 KB of memory behind, which a signal handler or a child may be looking at.
 *
 * A registered command that runs is cancelled and waited for, 5 seconds at most; one that hangs keeps its thread, and
 * only that, until it returns.
 *
 * Returns 0, or a negative errno, and logs the reason in one line:
 *   -ENOENT    this process has no manhole
 *   -EDEADLK   called on a thread of the manhole: by a command that was registered here
 *   -EBUSY     the manhole's thread cannot be reached (no /proc in a chroot), or does not answer within 5 seconds
 *
 * Context: any thread; not a signal handler, nor with a lock held that a running command of this interface needs.
 * Thread-safe. */
int manhole_release(void);

/* ---- Stacks, now --------------------------------------------------------------------------------------------- */

/* Serves one client on the calling thread, which stands still until that client has come and left, as the signal of
 * the option oneshot_on does; the other threads run on. For programs that have an event of their own for it, such as
 * uWSGI's signals. While it serves, signals that have a handler wait in this thread.
 *
 * Returns 0, or a negative errno:
 *   -ENOENT    this process has no manhole: install one with oneshot_on=SIGNAL (which starts no thread)
 *   -EBUSY     another thread serves a client in this way
 *   -EIO       no socket could be opened, for example because the manhole's thread has it; the log says why
 *   -ENOMEM    no memory for it
 *   -EDEADLK   called from a handler that interrupted this library in the middle of an allocation
 *   -EFAULT    a bug of the library, which is logged
 *
 * Context: any thread, signal handlers included, with any lock of the application held. errno is kept. Thread-safe. */
int manhole_oneshot(void);

/* Writes the stacks of all threads, as the command `stacks` shows them, to descriptor fd of the calling thread's
 * table. The calling thread is shown from its caller on, through a signal handler to what that interrupted. Whether a
 * manhole is installed makes no difference; one that is bounds the dump by its options.
 *
 * Returns how many threads were written, or a negative errno:
 *   -EBUSY     another thread writes such a dump
 *   -ETIMEDOUT the descriptor took nothing for too long: all waiting together ends after 5 seconds
 *   -EPIPE     nobody reads it; no SIGPIPE is raised
 *   -EIO       the dump ended early; what was written says why
 *   -ENOMEM    no memory for it
 *   -EDEADLK   called from a handler that interrupted this library in the middle of an allocation
 *   -EFAULT    a bug of the library, which is logged
 *   and those of write(2): -EBADF, -ENOSPC, ...
 *
 * Context: any thread; async-signal-safe, fit for a crash handler: with any lock of the application held, its heap
 * corrupt, on an alternate stack (it maps a stack of its own and needs 2 KB of the caller's). errno is kept.
 * Thread-safe. */
int manhole_dump_stacks(int fd);

/* ---- Commands ------------------------------------------------------------------------------------------------ */

/* One call of a registered command: what its output goes to. Alive until the callback returns. */
struct manhole_call;

/* What a registered command does.
 *
 * argv[0] is the command's name, argv[1] to argv[argc - 1] are the arguments as the operator typed them, after quotes
 * and backslashes; argv[argc] is NULL. They live until the callback returns. user is what was registered.
 *
 * Returns the command's status: 0 success, 2 wrong usage (the synopsis is shown), 1 or anything else failed.
 * manhole-cli -c exits with it.
 *
 * Context: the thread `Manhole actor`, with a stack of 2 MB and in the application's descriptor table. Callbacks run one
 * after another; the stacks of all threads and other commands are served meanwhile. (After a release that left a hanging
 * callback behind, and another install, others run beside that one; it itself does not run twice at once.)
 * A callback may call malloc, take locks, write files, wait: whatever a thread of the application may. But:
 *   - All signals are blocked there (option sigmask). A thread or child that is started here inherits that.
 *   - It must return: not by an exception, longjmp() or pthread_exit(). exit() is fine.
 *   - If it crashes, or leaves by one of those, it is abandoned where it stands, and the operator sees its stack: what it
 *     locked stays locked. Where ptrace is refused there is no guard, and the process crashes.
 *   - A child that it forks must exec, or end, before the callback returns; one that returns is ended with status 1.
 *   - One that never returns holds up all registered commands, and nothing else.
 * With oneshot_on, and in manhole_oneshot(), there is no such thread: the operator is told that the command needs it. */
typedef int manhole_callback(struct manhole_call *call, int argc, const char *const *argv, void *user);

/* Gives the operator a command.
 *
 * name:     a letter, then letters, digits, `-`, `_` or `.`, 64 bytes at most
 * synopsis: its arguments for `help`, as in "KEY [--all]"; NULL for none
 * help:     what it does: the first line is for the list, all of it for `help NAME`; NULL for none. UTF-8, 64 KB at most
 * user:     passed to the callback
 *
 * Returns 0, or a negative errno:
 *   -EINVAL  the name is none, a text is too long or not UTF-8, or callback is NULL
 *   -EEXIST  there is such a command: a registered one, or one of the manhole's own, which cannot be replaced
 *   -ENOSPC  256 commands are registered
 *   -ENOMEM  there is no memory
 *
 * Context: any thread, a library's constructor and a callback included; not a signal handler. Thread-safe: there is one
 * lock, for the time of a few loads and stores, which only registering and unregistering threads take. The manhole's own
 * thread takes none: even a thread that a debugger stops in here for ever does not hold it up. */
int manhole_register_command(const char *name, const char *synopsis, const char *help, manhole_callback *callback,
                             void *user);

/* Takes the command away, and waits until its callback does not run any more, however long that takes: when this has
 * returned 0, the callback's code may be unloaded and what user points to may be freed.
 *
 * Returns 0, or a negative errno:
 *   -ENOENT   no such command is registered
 *   -EDEADLK  called by the very callback; the command stays
 *   -EINVAL   the name is too long or not UTF-8
 *
 * Context: any thread; not a signal handler, nor with a lock held that the callback may wait for. Another callback may
 * call it. Thread-safe. The wait does not cancel the callback. */
int manhole_unregister_command(const char *name);

/* Writes to the client whose command this call is: all of it, as it is. At most 256 KB wait for a slow client; beyond
 * that this waits, too.
 *
 * Returns 0, or a negative errno:
 *   -EPIPE   nobody reads: the client is gone, or the manhole closes. All later writes say the same
 *   -EINVAL  call is NULL, or bytes is and length is not 0
 *   -ENOMEM  there is no memory; a part may have been written
 *
 * Context: the callback, and threads that it waits for. Not a signal handler. Thread-safe: a write of up to 256 KB is
 * one piece only if nobody else writes. In a child that the callback forked it returns -EPIPE. */
int manhole_write(struct manhole_call *call, const void *bytes, size_t length);

/* Whether nobody waits for this call any more: 1 when the client is gone or the manhole closes, else 0. A command that
 * takes long should ask now and then, and return.
 *
 * Context: as manhole_write(); it never waits. Thread-safe. */
int manhole_cancelled(struct manhole_call *call);

/* Formats as vprintf() does, and hands it to write, which is manhole_write() or a pointer to it.
 *
 * Returns what that returns, -ENOMEM when there is no memory for a text of more than 1 KB, or -EINVAL when vsnprintf()
 * refuses. Context and thread-safety: as manhole_write(), and it may call malloc(). */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 0)))
#endif
static inline int manhole_vprintf_by(int (*write)(struct manhole_call *, const void *, size_t), struct manhole_call *call,
                                     const char *format, va_list arguments)
{
    char room[1024];
    char *text = room;
    va_list again;
    int length, result = -ENOMEM;
    va_copy(again, arguments);
    length = vsnprintf(room, sizeof room, format, arguments);
    if (length >= (int)sizeof room) {
        text = (char *)malloc((size_t)length + 1);
        if (text)
            length = vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    if (text)
        result = length < 0 ? -EINVAL : write(call, text, (size_t)length);
    if (text != room)
        free(text);
    return result;
}

/* manhole_vprintf_by() with manhole_write(). */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static inline int manhole_printf(struct manhole_call *call, const char *format, ...)
{
    va_list arguments;
    int result;
    va_start(arguments, format);
    result = manhole_vprintf_by(manhole_write, call, format, arguments);
    va_end(arguments);
    return result;
}

/* ---- Variables ----------------------------------------------------------------------------------------------- */

/* Gives the operator a name for a place in memory, for use wherever a command takes an address (`x/2dg cache`), and
 * listed by `locals`. A name of the option locals goes before it.
 *
 * name:    a letter or `_`, then letters, digits or `_`, 64 bytes at most
 * address: where it is; not NULL. It is read when the operator asks, by calls that fail where there is no memory
 * size:    how many bytes it has; 0 if that is not known
 *
 * Returns 0, or a negative errno:
 *   -EINVAL  the name is none, or address is NULL
 *   -EEXIST  there is a variable of that name
 *   -ENOSPC  1024 variables are registered
 *   -ENOMEM  there is no memory
 *
 * Context and thread-safety: as manhole_register_command(). */
int manhole_register_variable(const char *name, const volatile void *address, size_t size);

/* Takes the name away. The memory may be freed after that, or before: the operator then reads whatever is there.
 *
 * Returns 0, or a negative errno: -ENOENT when there is no variable of that name, -EINVAL when the name is too long.
 *
 * Context and thread-safety: as manhole_register_command(). */
int manhole_unregister_variable(const char *name);

#ifdef __cplusplus
}
#endif

#endif
