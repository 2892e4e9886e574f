// SPDX-License-Identifier: Apache-2.0
import { createSocket } from "node:dgram";
import { createServer } from "node:net";

/**
 * A program, `echo.ts PORT`: tells everybody who sends a line by TCP or a datagram by UDP, over either family, which
 * address it was seen to come from. Each is also a line of its output: `tcp ADDRESS TEXT`, `udp ADDRESS TEXT`.
 */
const port = Number(process.argv[2]);

/** IPv4 addresses come as `::ffff:10.0.0.1`, since one socket serves both families. */
function plain(address: string | undefined): string {
  return (address ?? "?").replace("::ffff:", "");
}

function note(protocol: string, address: string, text: string): void {
  process.stdout.write(`${protocol} ${address} ${text.trim()}\n`);
}

createServer((socket) => {
  const address = plain(socket.remoteAddress);
  // A client that goes away early is no concern of ours.
  socket.on("error", () => {});
  socket.once("data", (data) => {
    note("tcp", address, data.toString());
    socket.end(`${address}\n`);
  });
}).listen(port);

const udp = createSocket("udp6");
udp.on("message", (data, sender) => {
  note("udp", plain(sender.address), data.toString());
  udp.send(`${plain(sender.address)}\n`, sender.port, sender.address);
});
udp.bind(port);
