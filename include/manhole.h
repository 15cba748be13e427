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

/* Opens the manhole of this process: one thread, one Unix socket.
 *
 * options: the text that MANHOLE would hold ("verbose=False, max_frames=64"), NUL-terminated. NULL or
 * "" stands for the options in MANHOLE if that says thread=False, else for the defaults.
 *
 * Returns 0, or a negative errno, and logs the reason in one line:
 *   -EINVAL    an option is unknown, repeated, or has a value that it does not take
 *   -EALREADY  this process has a manhole and strict is True; with strict=False that one stays
 *   -EAGAIN    no thread could be created
 * 0 does not promise a socket: one that cannot be opened (the path is taken, /tmp is full) is logged.
 *
 * Context: any thread that may call malloc and pthread_create; not a signal handler. Thread-safe. */
int manhole_install(const char *options);

#ifdef __cplusplus
}
#endif

#endif
