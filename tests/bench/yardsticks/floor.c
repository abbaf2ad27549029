/* The floor: what passing lines on costs a program that does nothing else.
   floor PORT FEED PRODUCT: one read, all whole frames, one write. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROOM = 4 << 20, READ = 128 << 10 };
static unsigned char in[ROOM], out[ROOM];

static void put(int fd, const void *bytes, size_t size) {
    for (const char *at = bytes; size;) {
        ssize_t gone = write(fd, at, size);
        if (gone <= 0) exit(2);
        at += gone;
        size -= gone;
    }
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int venue = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(venue, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(venue, (void *)&where, sizeof where)) return 3;
    const char *hello =
        "GET /ws/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    put(venue, hello, strlen(hello));
    char asked[512];
    int size = snprintf(asked + 8, sizeof asked - 8,
        "{\"event\":\"subscribe\",\"feed\":\"%s\",\"product_ids\":[\"%s\"]}", argv[2], argv[3]);
    memcpy(asked, "\x81\xfe\0\0\0\0\0\0", 8); /* a mask of zeros masks nothing */
    asked[2] = size >> 8;
    asked[3] = size;
    put(venue, asked, size + 8);
    size_t held = 0;
    int greeted = 0;
    for (;;) {
        ssize_t came = read(venue, in + held, READ);
        if (came <= 0) return 4;
        held += came;
        size_t at = 0, told = 0;
        if (!greeted) {
            unsigned char *end = memmem(in, held, "\r\n\r\n", 4);
            if (!end) continue;
            greeted = 1;
            at = end + 4 - in;
        }
        while (held - at >= 2) {
            size_t start = at + 2, length = in[at + 1];
            if (length == 126) start += 2; else if (length == 127) start += 8;
            if (held < start) break;
            if (length >= 126)
                for (size_t i = at + 2, n = 0; i < start; i++) length = n = n << 8 | in[i];
            if (held - start < length) break;
            if (in[at] == 0x88) {
                put(1, out, told);
                return 0;
            }
            if (in[at] == 0x81 && memcmp(in + start, "{\"event\"", 8)) {
                memcpy(out + told, in + start, length);
                told += length;
                out[told++] = '\n';
            }
            at = start + length;
        }
        put(1, out, told);
        memmove(in, in + at, held -= at);
    }
}
