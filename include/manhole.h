/* libmanhole: the C interface, for programs that link the library or find it with dlsym().
 *
 * Preloading needs none of this: the constructor reads the environment variable MANHOLE and starts by
 * itself. A program that was started with MANHOLE='thread=False' decides here when to start.
 */
#ifndef MANHOLE_H
#define MANHOLE_H

/* The version that this header describes: major * 10000 + minor * 100 + patch. */
#define MANHOLE_VERSION 100

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the loaded library, counted as MANHOLE_VERSION is.
 * Any context; async-signal-safe. */
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
 * back that they had. Fork handlers stay registered and do nothing. manhole_install() may follow.
 *
 * Returns 0, or a negative errno, and logs the reason in one line:
 *   -ENOENT    this process has no manhole
 *   -EDEADLK   called on a thread of the manhole: by a command that was registered here
 *   -EBUSY     the manhole's thread cannot be reached (no /proc in a chroot), or does not answer within 5 seconds
 *
 * Context: any thread; not a signal handler, nor with a lock held that a running command of this interface needs.
 * Thread-safe. */
int manhole_release(void);

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

#ifdef __cplusplus
}
#endif

#endif
