// flags: -std=c99 -Wall -Wextra -Werror -pedantic -O1 -g -Iinclude -L{library} -lmanhole -Wl,-rpath,{library}
#include <manhole.h>
#include <string.h>

static struct { long hits, misses; } cache = { 41, 1 };

static int cache_stats(struct manhole_call *call, int argc, const char *const *argv, void *user)
{
    int percent = argc == 2 && !strcmp(argv[1], "--percent");
    if (argc > 1 && !percent)
        return 2; /* the status: 0 success, 1 failed, 2 usage */
    (void)user; /* the last argument of manhole_register_command() */
    if (percent)
        return manhole_printf(call, "%ld %%\n", 100 * cache.hits / (cache.hits + cache.misses)) != 0;
    return manhole_printf(call, "%ld hits, %ld misses\n", cache.hits, cache.misses) != 0;
}

int main(void)
{
    int error;
    manhole_register_command("cache-stats", "[--percent]", "Show how the cache does.", cache_stats, NULL);
    manhole_register_variable("cache", &cache, sizeof cache);
    /* In the place of the manhole that opened when the library was loaded. */
    error = manhole_install("strict=False, socket_path='/tmp/example-{pid}'");
    if (error)
        fprintf(stderr, "no manhole: %s\n", strerror(-error));
    return getchar() == EOF; /* the program's own work */
}
