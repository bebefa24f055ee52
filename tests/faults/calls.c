/* Preloaded into a process: notes the calls that change files below $CALLS_BELOW, in order, and fails those it is told
   to. Python and Rust both come through here, since both call the C library. See calls.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int log_file = -1;
static char opened[1 << 16]; /* by descriptor: whether it is of a file below */
static struct {
    char call[16];
    int code, times;
} fault;

/* Let the next `times` calls of that name fail; returns how many of those before did not come. */
int fail_call(const char *call, int code, int times) {
    int left = fault.times;
    snprintf(fault.call, sizeof fault.call, "%s", call);
    fault.code = code;
    fault.times = times;
    return left;
}

static int fails(const char *call) {
    if (fault.times <= 0 || strcmp(call, fault.call)) return 0;
    fault.times--;
    errno = fault.code;
    return 1;
}

static int is_below(const char *path) {
    const char *below = getenv("CALLS_BELOW");
    return below && path && !strncmp(path, below, strlen(below));
}

/* A line: the call, and what it was asked. */
static void note(const char *format, ...) {
    const char *name = getenv("CALLS_LOG");
    va_list arguments;
    if (!name) return;
    if (log_file < 0) log_file = REAL(open64)(name, O_WRONLY | O_CREAT | O_APPEND, 0600);
    va_start(arguments, format);
    vdprintf(log_file, format, arguments);
    va_end(arguments);
}

/* Put a line of the process's own between the calls. */
void mark(const char *text) { note("mark %s\n", text); }

static int open_file(const char *path, int flags, int mode) {
    int below = is_below(path), fd;
    if (below && fails("open")) return -1;
    int created = below && (flags & O_CREAT) && access(path, F_OK);
    fd = REAL(open64)(path, flags, mode);
    if (fd >= 0 && fd < (int)sizeof opened) opened[fd] = below;
    if (fd >= 0 && below) note("%s %d %s\n", created ? "create" : "open", fd, path);
    return fd;
}

#define OPEN(name)                                            \
    int name(const char *path, int flags, ...) {              \
        va_list arguments;                                    \
        va_start(arguments, flags);                           \
        int mode = flags & O_CREAT ? va_arg(arguments, int) : 0; \
        va_end(arguments);                                    \
        return open_file(path, flags, mode);                  \
    }
OPEN(open)
OPEN(open64)

#define OF_FD(type, name, parameters, arguments, noted)            \
    type name parameters {                                         \
        int below = fd >= 0 && fd < (int)sizeof opened && opened[fd]; \
        if (below && fails(#name)) return -1;                      \
        type result = REAL(name) arguments;                        \
        if (below && result >= 0) noted;                           \
        return result;                                             \
    }

static void note_write(int fd, const unsigned char *data, ssize_t size) {
    if (!getenv("CALLS_LOG")) return;
    char *text = malloc(2 * size + 1);
    for (ssize_t i = 0; i < size; i++) sprintf(text + 2 * i, "%02x", data[i]);
    text[2 * size] = 0;
    note("write %d %s\n", fd, text);
    free(text);
}

static void note_copy(int from, int fd, ssize_t size) {
    char *data = malloc(size + 1);
    note_write(fd, (unsigned char *)data, pread(from, data, size, lseek(from, 0, SEEK_CUR) - size));
    free(data);
}

OF_FD(ssize_t, copy_file_range, (int from, off64_t *from_at, int fd, off64_t *at, size_t size, unsigned flags),
      (from, from_at, fd, at, size, flags), note_copy(from, fd, result))
OF_FD(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), note_write(fd, data, result))
OF_FD(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), )
OF_FD(int, fsync, (int fd), (fd), note("fsync %d\n", fd))
OF_FD(int, fdatasync, (int fd), (fd), note("fsync %d\n", fd))

int close(int fd) { /* closes even where it fails, as Linux does */
    int below = fd >= 0 && fd < (int)sizeof opened && opened[fd], result = REAL(close)(fd);
    if (!below) return result;
    opened[fd] = 0;
    return fails("close") ? -1 : result;
}

#define OF_PATH(name, parameters, arguments, path, ...)     \
    int name parameters {                                   \
        int below = is_below(path);                         \
        if (below && fails(#name)) return -1;               \
        int result = REAL(name) arguments;                  \
        if (below && result == 0) note(__VA_ARGS__);        \
        return result;                                      \
    }

OF_PATH(mkdir, (const char *path, mode_t mode), (path, mode), path, "mkdir %s\n", path)
OF_PATH(rmdir, (const char *path), (path), path, "unlink %s\n", path)
OF_PATH(unlink, (const char *path), (path), path, "unlink %s\n", path)
OF_PATH(rename, (const char *from, const char *to), (from, to), from, "rename %s %s\n", from, to)
OF_PATH(link, (const char *from, const char *to), (from, to), from, "link %s %s\n", from, to)
