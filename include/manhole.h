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

#ifdef __cplusplus
}
#endif

#endif
