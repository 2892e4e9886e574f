// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { createProgress } from "./progress.ts";

function setUp() {
  const written: string[] = [];
  const times = [0, 400, 1000];
  const progress = createProgress(
    2,
    (text) => written.push(text),
    () => times.shift() ?? 0,
  );
  return { progress, text: () => written.join("") };
}

test("step() begins its line before the work and ends it with the time", async () => {
  const { progress, text } = setUp();
  await progress.step("segment and nodes", async () => expect(text()).toBe("[1/2] segment and nodes … "));
  expect(text()).toBe("[1/2] segment and nodes … 0.4 s\n");
});

test("step() shows a failure and passes it on", async () => {
  const { progress, text } = setUp();
  await expect(progress.step("agents", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  expect(text()).toBe("[1/2] agents … failed\n");
});

test("show() indents what belongs to a step", () => {
  const { progress, text } = setUp();
  progress.show(["a", "", "b"]);
  expect(text()).toBe("      a\n\n      b\n\n");
});
