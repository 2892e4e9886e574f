// SPDX-License-Identifier: Apache-2.0
/*
 * What a container runtime executes as the CNI plugin `gingham`. It holds no logic of its own: it hands the CNI_*
 * variables and stdin to the agent as one HTTP request, prints the answer and exits with its code.
 *
 *     musl-gcc -Os -static -s -Wall -Wextra -Werror -o gingham gingham.c
 *
 * One executor for each call: it turns elsewhere only while connect() fails. Once a byte was sent, no whole answer is
 * CNI error 11 (try again later), and never a second executor. A DEL is written down instead: that is safe whatever the
 * agent has done or will do of it, since it knows the file by the call's name (src/cni/commands/del.ts).
 *
 *   agent there                              ask it
 *   agent there, DEL, no answer              after DEL_WAIT_MS, or when it goes away: write it down, exit 0
 *   no agent, configuration has a kubeconfig exec gingham-standalone from this program's own folder, if it is there
 *   no agent, ADD                            try to connect for ADD_WAIT_MS (an upgrade of the agent), then error 11
 *   no agent, DEL                            write it down in <state>/pending for the agent at once, exit 0
 *   no agent, VERSION                        answer here
 *   no agent, anything else                  error 11, or 50 for STATUS
 *
 * Request body and pending release have one shape (src/cni/server/envelope.ts): `NAME=value\0` for each variable, `\0`, stdin.
 * The first variable is GINGHAM_CALL, the name that the pending release would have.
 *
 * GINGHAM_SOCKET and GINGHAM_STATE_DIR move the paths, for tests and the laboratory. That gives nobody a right he has
 * not: the program is not setuid, and who sets the environment of a plugin that root runs is root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef SOCKET_PATH
#define SOCKET_PATH "/run/gingham/agent.sock"
#endif
#ifndef STATE_DIR
#define STATE_DIR "/var/lib/gingham"
#endif
#ifndef ADD_WAIT_MS
#define ADD_WAIT_MS 10000
#endif
#ifndef ANSWER_WAIT_MS
#define ANSWER_WAIT_MS 120000
#endif
#ifndef STATUS_WAIT_MS
#define STATUS_WAIT_MS 10000
#endif
/* Longer than the agent itself lets a DEL wait for others (PATIENCE_MS there), and less than the second that is promised. */
#ifndef DEL_WAIT_MS
#define DEL_WAIT_MS 900
#endif
#define RETRY_MS 50
#define MAX_STDIN (1024 * 1024)
#define MAX_ANSWER (4 * 1024 * 1024)
#define MAX_DEPTH 64

enum { INVALID_ENVIRONMENT = 4, IO_FAILURE = 5, UNDECODABLE = 6, TRY_AGAIN = 11, NOT_AVAILABLE = 50 };

extern char **environ;

struct buffer {
	char *data;
	size_t length;
};

static const char *command;
static struct buffer configuration; /* stdin, and one zero byte that `length` does not count */
static char call_name[40];          /* unlike any other call's, and sorts by time */
static struct buffer envelope;

/* ---- answers ---- */

static void write_all(int fd, const char *data, size_t length) {
	while (length > 0) {
		ssize_t n = write(fd, data, length);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0) _exit(1);
		data += n;
		length -= (size_t)n;
	}
}

static void cni_version(char *version, size_t size);

/* Prints the CNI error object and ends. The message can hold paths and variables, so whatever bytes there are. */
static _Noreturn void vfail(int code, const char *format, va_list args) {
	char message[1024], escaped[6 * sizeof message], version[32], out[sizeof escaped + 128];
	vsnprintf(message, sizeof message, format, args);
	char *to = escaped;
	for (const char *from = message; *from; from++) {
		unsigned char c = (unsigned char)*from;
		if (c < 0x20) {
			to += sprintf(to, "\\u%04x", c);
			continue;
		}
		if (c == '"' || c == '\\') *to++ = '\\';
		*to++ = c < 0x7f ? *from : '?'; /* may be no UTF-8, which JSON must be */
	}
	*to = 0;
	cni_version(version, sizeof version);
	int length = snprintf(out, sizeof out, "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\"}", version, code, escaped);
	write_all(STDOUT_FILENO, out, (size_t)length);
	exit(1);
}

static _Noreturn void fail(int code, const char *format, ...) {
	va_list args;
	va_start(args, format);
	vfail(code, format, args);
}

static void write_pending(void);

/* Ends a call that the agent did not answer. */
static _Noreturn void give_up(const char *format, ...) {
	va_list args;
	va_start(args, format);
	if (!strcmp(command, "DEL")) {
		write_pending();
		exit(0);
	}
	vfail(strcmp(command, "STATUS") ? TRY_AGAIN : NOT_AVAILABLE, format, args);
}

static void *allocate(void *old, size_t size) {
	void *memory = realloc(old, size);
	if (!memory) fail(IO_FAILURE, "Out of memory for %zu bytes", size);
	return memory;
}

/* ---- as much JSON as it takes to find two strings ---- */

static const char *skip_blanks(const char *p) {
	return p + strspn(p, " \t\r\n");
}

/* Behind the string that begins at p, or NULL. */
static const char *skip_string(const char *p) {
	for (p++; *p != '"'; p++) {
		if (*p == '\\') p++;
		if (!*p) return NULL;
	}
	return p + 1;
}

/* Behind the value that begins at p, or NULL. */
static const char *skip_value(const char *p, int depth) {
	if (*p == '"') return skip_string(p);
	if (*p != '{' && *p != '[') return *p ? p + strcspn(p, ",]} \t\r\n") : NULL;
	if (depth == 0) return NULL;
	for (p = skip_blanks(p + 1); *p && *p != '}' && *p != ']'; p = skip_blanks(p)) {
		if (*p == ',' || *p == ':') p++;
		else if (!(p = skip_value(p, depth - 1))) return NULL;
	}
	return *p ? p + 1 : NULL;
}

/* The value of a key of the object at p, or NULL. Of a key that is there twice the last counts, as in JSON.parse. */
static const char *member(const char *p, const char *key) {
	const char *found = NULL;
	if (!p || *p != '{') return NULL;
	for (p = skip_blanks(p + 1); *p == '"';) {
		const char *name = p + 1, *end = skip_string(p);
		if (!end || *(p = skip_blanks(end)) != ':') return found;
		p = skip_blanks(p + 1);
		if ((size_t)(end - 1 - name) == strlen(key) && !strncmp(name, key, strlen(key))) found = p;
		if (!(p = skip_value(p, MAX_DEPTH)) || *(p = skip_blanks(p)) != ',') return found;
		p = skip_blanks(p + 1);
	}
	return found;
}

/* The configuration's version if it is plain, or else the newest: an answer must be one that its reader decodes. */
static void cni_version(char *version, size_t size) {
	const char *value = configuration.data ? member(skip_blanks(configuration.data), "cniVersion") : NULL;
	size_t length = value && *value == '"' ? strspn(value + 1, "0123456789.") : 0;
	if (length == 0 || length >= size || value[1 + length] != '"') {
		snprintf(version, size, "1.1.0");
		return;
	}
	memcpy(version, value + 1, length);
	version[length] = 0;
}

static int names_kubeconfig(void) {
	const char *section = member(skip_blanks(configuration.data), "kubernetes");
	const char *value = member(section, "kubeconfig");
	return value && value[0] == '"' && value[1] != '"';
}

/* ---- the call ---- */

static void read_configuration(void) {
	configuration.data = allocate(NULL, MAX_STDIN + 2);
	for (;;) {
		ssize_t n = read(STDIN_FILENO, configuration.data + configuration.length, MAX_STDIN + 1 - configuration.length);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0) fail(IO_FAILURE, "Cannot read the network configuration from stdin: %s", strerror(errno));
		if (n == 0) break;
		configuration.length += (size_t)n;
		configuration.data[configuration.length] = 0;
		if (configuration.length > MAX_STDIN) fail(UNDECODABLE, "Network configuration on stdin is longer than 1 MiB");
	}
	configuration.data[configuration.length] = 0;
}

static void append(const char *data, size_t length) {
	memcpy(envelope.data + envelope.length, data, length);
	envelope.length += length;
}

static void make_envelope(void) {
	char name[sizeof call_name + 16];
	size_t size = sizeof name + configuration.length + 1;
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	snprintf(call_name, sizeof call_name, "%020lld-%d", t.tv_sec * 1000000000LL + t.tv_nsec, (int)getpid());
	snprintf(name, sizeof name, "GINGHAM_CALL=%s", call_name);
	for (char **v = environ; *v; v++) size += strncmp(*v, "CNI_", 4) ? 0 : strlen(*v) + 1;
	envelope.data = allocate(NULL, size);
	append(name, strlen(name) + 1);
	for (char **v = environ; *v; v++)
		if (!strncmp(*v, "CNI_", 4) && strchr(*v, '=')) append(*v, strlen(*v) + 1);
	append("", 1);
	append(configuration.data, configuration.length);
}

static long now_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000L + t.tv_nsec / 1000000;
}

/* ---- asking the agent ---- */

/* A socket of the agent, or -1 with errno. EAGAIN: somebody listens, but too many wait already. */
static int connect_agent(const char *path) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path) fail(IO_FAILURE, "Socket path is too long: %s", path);
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) fail(IO_FAILURE, "Cannot make a socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

static void wait_for(int fd, short events, long deadline) {
	struct pollfd p = {.fd = fd, .events = events};
	for (;;) {
		long left = deadline - now_ms();
		int n = left > 0 ? poll(&p, 1, (int)left) : 0;
		if (n > 0) return;
		if (n == 0) give_up("The agent took the call and did not answer in time; see its log");
		if (errno != EINTR) give_up("Lost the agent: poll: %s", strerror(errno));
	}
}

/* Returns 0 when the agent went away before it was given a byte, so that another may be asked. */
static int send_request(int fd, long deadline) {
	char head[160];
	int head_length = snprintf(head, sizeof head,
		"POST /cni HTTP/1.1\r\nHost: gingham\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", envelope.length);
	struct buffer parts[] = {{head, (size_t)head_length}, envelope};
	size_t sent = 0;
	for (int i = 0; i < 2; i++) {
		while (parts[i].length > 0) {
			ssize_t n = send(fd, parts[i].data, parts[i].length, MSG_NOSIGNAL);
			if (n >= 0) {
				sent += (size_t)n;
				parts[i].data += n;
				parts[i].length -= (size_t)n;
			} else if (errno == EAGAIN) {
				wait_for(fd, POLLOUT, deadline);
			} else if (errno != EINTR) {
				if (sent == 0) return 0;
				/* It may have answered and closed early (a request that it refuses): read on. */
				return 1;
			}
		}
	}
	return 1;
}

/* The body of a whole answer, or NULL while it is not whole. */
static const char *whole_body(struct buffer answer, size_t *length, int *status) {
	const char *end = strstr(answer.data, "\r\n\r\n");
	if (!end || strncmp(answer.data, "HTTP/1.1 ", 9)) return NULL;
	*status = atoi(answer.data + 9);
	for (const char *line = strstr(answer.data, "\r\n"); line && line < end; line = strstr(line + 2, "\r\n")) {
		if (strncasecmp(line + 2, "Content-Length:", 15)) continue;
		*length = strtoul(line + 17, NULL, 10);
		size_t there = answer.length - (size_t)(end + 4 - answer.data);
		return there >= *length ? end + 4 : NULL;
	}
	return NULL;
}

static _Noreturn void relay_answer(int fd, long deadline) {
	struct buffer answer = {allocate(NULL, 1), 0};
	size_t size = 0, length = 0;
	int status = 0;
	for (;;) {
		if (size - answer.length < 2) answer.data = allocate(answer.data, size = size ? size * 2 : 8192);
		ssize_t n = recv(fd, answer.data + answer.length, size - answer.length - 1, 0);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0 && errno == EAGAIN) {
			wait_for(fd, POLLIN, deadline);
			continue;
		}
		if (n <= 0 || answer.length > MAX_ANSWER) {
			give_up("The agent took the call and went away without a whole answer (%s); try again",
				n < 0 ? strerror(errno) : n == 0 ? "connection closed" : "endless answer");
		}
		answer.length += (size_t)n;
		answer.data[answer.length] = 0;
		const char *body = whole_body(answer, &length, &status);
		if (!body) continue;
		if (status != 200 && length == 0) give_up("The agent answered HTTP status %d without a reason", status);
		write_all(STDOUT_FILENO, body, length);
		exit(status == 200 ? 0 : 1);
	}
}

/* ---- without an agent ---- */

/* Executes gingham-standalone beside this program, with the same environment and stdin; returns when there is none. */
static void try_standalone(void) {
	static const char name[] = "gingham-standalone";
	char path[4096];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof name);
	if (length <= 0) return;
	path[length] = 0;
	strcpy(strrchr(path, '/') + 1, name);
	if (access(path, X_OK) != 0) return;
	int fd = memfd_create("stdin", 0);
	if (fd < 0) fail(IO_FAILURE, "Cannot make a memory file: %s", strerror(errno));
	write_all(fd, configuration.data, configuration.length);
	lseek(fd, 0, SEEK_SET);
	dup2(fd, STDIN_FILENO);
	close(fd);
	signal(SIGPIPE, SIG_DFL);
	execv(path, (char *[]){path, NULL});
	fail(IO_FAILURE, "Cannot execute %s: %s", path, strerror(errno));
}

static void require(const char *variable) {
	const char *value = getenv(variable);
	if (!value || !*value) fail(INVALID_ENVIRONMENT, "DEL needs %s: not set or empty", variable);
}

static int sync_folder(const char *path) {
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) return -1;
	int result = fsync(fd), error = errno;
	close(fd);
	errno = error;
	return result;
}

static void make_folder(const char *path) {
	char parent[1100];
	if (mkdir(path, 0700) == 0) {
		snprintf(parent, sizeof parent, "%s/..", path);
		if (sync_folder(parent) == 0) return;
	}
	if (errno != EEXIST)
		fail(IO_FAILURE, "The release cannot be written down for the agent: mkdir %s: %s", path, strerror(errno));
}

static const char *setting(const char *variable, const char *fallback) {
	const char *value = getenv(variable);
	return value && *value ? value : fallback;
}

/* Writes the DEL down for the agent: durable before we say that it is done. */
static void write_pending(void) {
	char folder[1024], temporary[1200], final[1200];
	const char *state = setting("GINGHAM_STATE_DIR", STATE_DIR);
	/* What the agent could never work off must not be answered with success. */
	require("CNI_CONTAINERID");
	require("CNI_IFNAME");
	if (*skip_blanks(configuration.data) != '{') fail(UNDECODABLE, "Network configuration on stdin is no JSON object");
	make_folder(state);
	snprintf(folder, sizeof folder, "%s/pending", state);
	make_folder(folder);
	snprintf(temporary, sizeof temporary, "%s/.%s", folder, call_name);
	snprintf(final, sizeof final, "%s/%s.del", folder, call_name);
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	const char *step = "open";
	if (fd >= 0) {
		size_t done = 0;
		ssize_t n = 0;
		while (done < envelope.length && ((n = write(fd, envelope.data + done, envelope.length - done)) >= 0 || errno == EINTR))
			done += n > 0 ? (size_t)n : 0;
		step = done < envelope.length ? "write" : fsync(fd) ? "fsync" : rename(temporary, final) ? "rename"
			: sync_folder(folder) ? "fsync of the folder" : NULL;
	}
	if (!step) return;
	int error = errno;
	unlink(temporary);
	fail(IO_FAILURE, "The release cannot be written down for the agent in %s: %s: %s", folder, step, strerror(error));
}

static _Noreturn void answer_version(void) {
	char version[32], out[256];
	cni_version(version, sizeof version);
	int length = snprintf(out, sizeof out,
		"{\"cniVersion\":\"%s\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}",
		version);
	write_all(STDOUT_FILENO, out, (size_t)length);
	exit(0);
}

int main(void) {
	signal(SIGPIPE, SIG_IGN);
	long start = now_ms();
	command = getenv("CNI_COMMAND");
	if (!command || !*command)
		fail(INVALID_ENVIRONMENT, "CNI_COMMAND is not set; gingham is a CNI plugin, to be run by a container runtime");
	const char *path = setting("GINGHAM_SOCKET", SOCKET_PATH);
	read_configuration();
	make_envelope();
	int is_del = !strcmp(command, "DEL"), is_status = !strcmp(command, "STATUS");

	for (;; usleep(RETRY_MS * 1000)) {
		int fd = connect_agent(path);
		if (fd >= 0) {
			long deadline = is_del ? start + DEL_WAIT_MS : now_ms() + (is_status ? STATUS_WAIT_MS : ANSWER_WAIT_MS);
			if (send_request(fd, deadline)) relay_answer(fd, deadline);
			close(fd);
		} else if (errno == ENOENT || errno == ECONNREFUSED) {
			if (names_kubeconfig()) try_standalone();
			if (!strcmp(command, "VERSION")) answer_version();
			if (strcmp(command, "ADD")) give_up("No agent listens on %s; start gingham-agent", path);
		} else if (errno != EAGAIN && errno != EINTR) {
			fail(IO_FAILURE, "Cannot connect to %s: %s", path, strerror(errno));
		}
		if (now_ms() - start >= (is_del ? DEL_WAIT_MS : ADD_WAIT_MS))
			give_up("No agent took the call on %s; start gingham-agent, or see its log", path);
	}
}
