/* Records what this process does to the files of one folder, and what it says about it, in one order.

   Loaded with LD_PRELOAD, so that it sees the calls of the very SQLite that the product uses, from all
   threads. A call on the folder and its line in the record are made under one lock: the record's order
   is the order of the calls. What it does not know how to record (a rename, a writable mapping, ...) it
   names as such, so that whoever replays the record can refuse it; nothing is left out in silence.

   recorder_begin(folder, record), recorder_mark(text) and recorder_end() are called through ctypes.
   Each line of the record: kind, inode, offset or size, length of the name, length of the body; then
   the name, then the body (recording.py reads it). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum place { OUTSIDE, INSIDE, FOLDER };

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static volatile int record = -1;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

/* -- the record ---------------------------------------------------------------------------------- */

static void put(char kind, uint64_t inode, int64_t offset, const char *name, const void *body, size_t length) {
    struct __attribute__((packed)) {
        char kind;
        uint64_t inode;
        int64_t offset;
        uint32_t name_length, body_length;
    } head = {kind, inode, offset, (uint32_t)strlen(name), (uint32_t)length};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)name, head.name_length}, {(void *)body, length}};
    ssize_t whole = (ssize_t)(sizeof head + head.name_length + length);
    int kept = errno;
    if (record >= 0 && syscall(SYS_writev, record, parts, 3) != whole) abort(); /* never a record with gaps */
    errno = kept;
}

int recorder_begin(const char *of, const char *to) {
    pthread_mutex_lock(&turn);
    if (!realpath(of, folder)) abort();
    record = REAL(open)(to, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    pthread_mutex_unlock(&turn);
    return record >= 0;
}

void recorder_end(void) {
    pthread_mutex_lock(&turn);
    if (record >= 0) REAL(close)(record);
    record = -1;
    pthread_mutex_unlock(&turn);
}

void recorder_mark(const char *text) {
    pthread_mutex_lock(&turn);
    put('M', 0, 0, "", text, strlen(text));
    pthread_mutex_unlock(&turn);
}

/* -- is it ours? --------------------------------------------------------------------------------- */

static enum place place(const char *path, char *name) {
    size_t length = strlen(folder);
    if (strncmp(path, folder, length)) return OUTSIDE;
    if (!path[length]) return FOLDER;
    if (path[length] != '/') return OUTSIDE;
    if (name) strcpy(name, path + length + 1);
    return INSIDE;
}

static void link_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static enum place of_fd(int fd, char *name, uint64_t *inode) {
    char path[PATH_MAX];
    struct stat found;
    if (record < 0) return OUTSIDE;
    int kept = errno;
    link_of(fd, path);
    enum place where = place(path, name);
    if (where != OUTSIDE) {
        if (fstat(fd, &found)) abort();
        if (inode) *inode = found.st_ino;
    }
    errno = kept;
    return where;
}

static enum place of_path(int at, const char *path, char *name) {
    char whole[2 * PATH_MAX], parent[PATH_MAX];
    if (record < 0) return OUTSIDE;
    int kept = errno;
    whole[0] = 0;
    if (path[0] != '/') {
        if (at != AT_FDCWD) link_of(at, whole);
        else if (!getcwd(whole, PATH_MAX)) abort();
        strcat(whole, "/");
    }
    strncat(whole, path, PATH_MAX - 1);
    char *last = strrchr(whole, '/');
    *last = 0;
    enum place where = OUTSIDE;
    if (realpath(whole[0] ? whole : "/", parent)) {
        strncat(parent, "/", PATH_MAX - strlen(parent) - 1);
        strncat(parent, last + 1, PATH_MAX - strlen(parent) - 1);
        where = place(parent, name);
    }
    errno = kept;
    return where;
}

static void refuse(const char *call) {
    pthread_mutex_lock(&turn);
    put('X', 0, 0, call, "", 0);
    pthread_mutex_unlock(&turn);
}

/* -- opening ------------------------------------------------------------------------------------- */

static int opened(int at, const char *path, int flags, mode_t mode) {
    char name[PATH_MAX];
    uint64_t inode;
    if (record < 0 || !(flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)))
        return REAL(openat)(at, path, flags, mode);
    pthread_mutex_lock(&turn);
    int there = !faccessat(at, path, F_OK, AT_SYMLINK_NOFOLLOW);
    int fd = REAL(openat)(at, path, flags, mode);
    if (fd >= 0 && of_fd(fd, name, &inode) == INSIDE) {
        if ((flags & O_TMPFILE) == O_TMPFILE) put('X', 0, 0, "O_TMPFILE", "", 0);
        else put(there ? 'O' : 'C', inode, 0, name, "", 0);
        if (there && flags & O_TRUNC) put('T', inode, 0, "", "", 0);
    }
    pthread_mutex_unlock(&turn);
    return fd;
}

#define MODE(flags)                                          \
    mode_t mode = 0;                                         \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list more;                                        \
        va_start(more, flags);                               \
        mode = va_arg(more, mode_t);                         \
        va_end(more);                                        \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return opened(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return opened(at, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* -- writing ------------------------------------------------------------------------------------- */

ssize_t write(int fd, const void *body, size_t length) {
    uint64_t inode;
    if (of_fd(fd, NULL, &inode) != INSIDE) return REAL(write)(fd, body, length);
    pthread_mutex_lock(&turn);
    ssize_t written = REAL(write)(fd, body, length);
    if (written > 0) put('W', inode, lseek(fd, 0, SEEK_CUR) - written, "", body, (size_t)written);
    pthread_mutex_unlock(&turn);
    return written;
}

static ssize_t placed(int fd, const void *body, size_t length, off_t offset) {
    uint64_t inode;
    if (of_fd(fd, NULL, &inode) != INSIDE) return REAL(pwrite)(fd, body, length, offset);
    pthread_mutex_lock(&turn);
    ssize_t written = REAL(pwrite)(fd, body, length, offset);
    if (written > 0) put('W', inode, offset, "", body, (size_t)written);
    pthread_mutex_unlock(&turn);
    return written;
}

ssize_t pwrite(int fd, const void *body, size_t length, off_t offset) { return placed(fd, body, length, offset); }
ssize_t pwrite64(int fd, const void *body, size_t length, off64_t offset) { return placed(fd, body, length, offset); }

static int cut(int fd, off_t size) {
    uint64_t inode;
    if (of_fd(fd, NULL, &inode) != INSIDE) return REAL(ftruncate)(fd, size);
    pthread_mutex_lock(&turn);
    int failed = REAL(ftruncate)(fd, size);
    if (!failed) put('T', inode, size, "", "", 0);
    pthread_mutex_unlock(&turn);
    return failed;
}

int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off64_t size) { return cut(fd, size); }

/* -- making it last ------------------------------------------------------------------------------ */

/* fdatasync counts as fsync: it, too, must bring the size to the disk, and times are no matter here. */
static int synced(int fd, int (*sync)(int)) {
    uint64_t inode;
    enum place where = of_fd(fd, NULL, &inode);
    if (where == OUTSIDE) return sync(fd);
    pthread_mutex_lock(&turn);
    int failed = sync(fd);
    if (!failed) put(where == FOLDER ? 'D' : 'S', inode, 0, "", "", 0);
    pthread_mutex_unlock(&turn);
    return failed;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

/* -- names --------------------------------------------------------------------------------------- */

static int removed(int at, const char *path, int flags) {
    char name[PATH_MAX];
    struct stat found;
    if (of_path(at, path, name) != INSIDE) return REAL(unlinkat)(at, path, flags);
    pthread_mutex_lock(&turn);
    int unseen = fstatat(at, path, &found, AT_SYMLINK_NOFOLLOW);
    int failed = REAL(unlinkat)(at, path, flags);
    if (!failed && unseen) abort();
    if (!failed) put('U', found.st_ino, 0, name, "", 0);
    pthread_mutex_unlock(&turn);
    return failed;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return removed(at, path, flags); }
int remove(const char *path) { return removed(AT_FDCWD, path, 0); } /* of folders: none is ours */

/* -- what is not modelled, only noticed ---------------------------------------------------------- */

#define NOTICE_PATH(at, path, call) do { if (of_path(at, path, (char[PATH_MAX]){0}) == INSIDE) refuse(call); } while (0)
#define NOTICE_FD(fd, call) do { if (of_fd(fd, NULL, NULL) != OUTSIDE) refuse(call); } while (0)

int rename(const char *from, const char *to) {
    NOTICE_PATH(AT_FDCWD, from, "rename");
    NOTICE_PATH(AT_FDCWD, to, "rename");
    return REAL(rename)(from, to);
}
int renameat(int at, const char *from, int to_at, const char *to) {
    NOTICE_PATH(at, from, "renameat");
    NOTICE_PATH(to_at, to, "renameat");
    return REAL(renameat)(at, from, to_at, to);
}
int renameat2(int at, const char *from, int to_at, const char *to, unsigned flags) {
    NOTICE_PATH(at, from, "renameat2");
    NOTICE_PATH(to_at, to, "renameat2");
    return REAL(renameat2)(at, from, to_at, to, flags);
}
int link(const char *from, const char *to) {
    NOTICE_PATH(AT_FDCWD, to, "link");
    return REAL(link)(from, to);
}
int mkdir(const char *path, mode_t mode) {
    NOTICE_PATH(AT_FDCWD, path, "mkdir");
    return REAL(mkdir)(path, mode);
}
int truncate(const char *path, off_t size) {
    NOTICE_PATH(AT_FDCWD, path, "truncate");
    return REAL(truncate)(path, size);
}
int truncate64(const char *path, off64_t size) {
    NOTICE_PATH(AT_FDCWD, path, "truncate");
    return REAL(truncate64)(path, size);
}
FILE *fopen(const char *path, const char *mode) {
    if (strpbrk(mode, "wa+")) NOTICE_PATH(AT_FDCWD, path, "fopen"); /* stdio writes behind our back */
    return REAL(fopen)(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
    if (strpbrk(mode, "wa+")) NOTICE_PATH(AT_FDCWD, path, "fopen");
    return REAL(fopen64)(path, mode);
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
    NOTICE_FD(fd, "fallocate");
    return REAL(fallocate)(fd, mode, offset, length);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    NOTICE_FD(fd, "fallocate");
    return REAL(fallocate64)(fd, mode, offset, length);
}
int posix_fallocate(int fd, off_t offset, off_t length) {
    NOTICE_FD(fd, "posix_fallocate");
    return REAL(posix_fallocate)(fd, offset, length);
}
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    NOTICE_FD(fd, "posix_fallocate");
    return REAL(posix_fallocate64)(fd, offset, length);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    NOTICE_FD(fd, "writev");
    return REAL(writev)(fd, parts, count);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    NOTICE_FD(fd, "pwritev");
    return REAL(pwritev)(fd, parts, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    NOTICE_FD(fd, "pwritev");
    return REAL(pwritev64)(fd, parts, count, offset);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    NOTICE_FD(fd, "pwritev2");
    return REAL(pwritev2)(fd, parts, count, offset, flags);
}
ssize_t copy_file_range(int in, off64_t *from, int fd, off64_t *to, size_t length, unsigned flags) {
    NOTICE_FD(fd, "copy_file_range");
    return REAL(copy_file_range)(in, from, fd, to, length, flags);
}
int syncfs(int fd) {
    NOTICE_FD(fd, "syncfs");
    return REAL(syncfs)(fd);
}
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    if (fd >= 0 && flags & MAP_SHARED && protection & PROT_WRITE) NOTICE_FD(fd, "mmap");
    return REAL(mmap)(address, length, protection, flags, fd, offset);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
    if (fd >= 0 && flags & MAP_SHARED && protection & PROT_WRITE) NOTICE_FD(fd, "mmap");
    return REAL(mmap64)(address, length, protection, flags, fd, offset);
}
