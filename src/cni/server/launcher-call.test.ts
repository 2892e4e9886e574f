// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { bodyOfCall, renderAnswer } from "./launcher-call.ts";

const body = "CNI_COMMAND=ADD\0\0{}";
const head = `POST /cni HTTP/1.1\r\nHost: gingham\r\nConnection: close\r\nContent-Length: ${body.length}`;
const request = (text: string): string | undefined => bodyOfCall(Buffer.from(text, "latin1"))?.toString("latin1");

describe("bodyOfCall()", () => {
  test("takes the launcher's request, headers in any case and order", () => {
    expect(request(`${head}\r\n\r\n${body}`)).toBe(body);
    expect(request(`POST /cni HTTP/1.1\r\ncontent-length:${body.length}\r\nhost: x\r\n\r\n${body}`)).toBe(body);
    expect(request("POST /cni HTTP/1.1\r\nContent-Length: 0\r\n\r\n")).toBe("");
  });

  test.each([
    ["another path", `${head}\r\n\r\n${body}`.replace("/cni", "/status")],
    ["another method", `${head}\r\n\r\n${body}`.replace("POST", "PUT")],
    ["half a head", head],
    ["half a body", `${head}\r\n\r\n${body.slice(0, -1)}`],
    ["more than a body", `${head}\r\n\r\n${body}x`],
    ["no length", `POST /cni HTTP/1.1\r\nHost: gingham\r\n\r\n${body}`],
    ["chunks", `${head}\r\nTransfer-Encoding: chunked\r\n\r\n${body}`],
    ["a wish to be asked first", `${head}\r\nExpect: 100-continue\r\n\r\n${body}`],
    ["no HTTP", "hello"],
    ["nothing", ""],
  ])("leaves %s to others", (_what, text) => {
    expect(request(text)).toBeUndefined();
  });
});

test("renderAnswer() counts bytes, not characters", () => {
  expect(renderAnswer(500, '"ä"')).toBe(
    'HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"ä"',
  );
});
