/* A disk that fails: preloaded (LD_PRELOAD) into a process, it makes writes and syncs of the journal's files fail
 * with the errno that the file named by DISK_FAULT holds, for as long as that file is there. Nothing else fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_journal(const char *path) { return strstr(path, ".db") != NULL; }

static int fault(void) {
    const char *name = getenv("DISK_FAULT");
    char text[16] = "";
    int found, number = 0;
    static int (*real_open)(const char *, int, ...);
    if (!real_open) real_open = dlsym(RTLD_NEXT, "open");
    if (!name || (found = real_open(name, O_RDONLY)) < 0) return 0;
    if (read(found, text, sizeof text - 1) > 0) number = atoi(text);
    close(found);
    return number;
}

static int fails(int fd) {
    char link[64], path[4096];
    int kept = errno, number = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        if (is_journal(path)) number = fault();
    }
    errno = number ? number : kept;
    return number;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, name)

ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return fails(fd) ? -1 : real(fd, from, count, at);
}
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return fails(fd) ? -1 : real(fd, from, count, at);
}
ssize_t write(int fd, const void *from, size_t count) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return fails(fd) ? -1 : real(fd, from, count);
}
int fsync(int fd) {
    REAL(int, "fsync", int);
    return fails(fd) ? -1 : real(fd);
}
int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return fails(fd) ? -1 : real(fd);
}
