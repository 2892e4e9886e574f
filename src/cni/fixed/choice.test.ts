// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseIPReservation, projectReservation, type Reservation } from "../../crds/ip-reservation.ts";
import { formatIP, parseIP } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import { chooseAddresses, type FixedNeed, ordinalOfPod } from "./choice.ts";

const SET = { kind: "StatefulSet", name: "web" };

function reservation(
  name: string,
  reservedCIDRs: readonly string[],
  { kind = "StatefulSet", owner = "web", annotations = {} as Record<string, string> } = {},
): Reservation {
  const labels = {
    "gingham.dev/owner-kind": kind,
    "gingham.dev/owner-namespace": "default",
    ...(owner.length <= 63 && { "gingham.dev/owner-name": owner }),
  };
  return projectReservation(parseIPReservation({ metadata: { name, labels, annotations }, spec: { reservedCIDRs } }));
}

function choose(pod: string, reservations: readonly Reservation[], need: Partial<FixedNeed> = {}): string {
  const choice = chooseAddresses({
    pod: { namespace: "default", name: pod },
    controller: SET,
    reservations,
    families: [4],
    ...need,
  });
  return `${choice.families.join("+")} ${choice.addresses.map(formatIP).join(" ")}`.trim();
}

function refusal(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    if (error instanceof CNIError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

describe("chooseAddresses()", () => {
  const web = reservation("web-addresses", ["10.0.0.5", "10.0.0.8/30", "fd00::/126", "10.1.0.0/32"]);

  it("gives the pods of a StatefulSet the addresses of each family in their order", () => {
    const dual = { families: [4, 6] as const };
    expect(choose("web-0", [web], dual)).toBe("4+6 10.0.0.5 fd00::");
    expect(choose("web-1", [web], dual)).toBe("4+6 10.0.0.8 fd00::1");
    expect(choose("web-3", [web], dual)).toBe("4+6 10.0.0.10 fd00::3");
    expect(choose("web-5", [reservation("r", ["10.0.0.5", "10.0.0.8/30", "10.1.0.0/32"])])).toBe("4 10.1.0.0");
  });

  it("takes two reservations, one for each family, and leaves a family without any to chance", () => {
    const [four, six] = [reservation("four", ["10.0.0.5"]), reservation("six", ["fd00::5"])];
    expect(choose("web-0", [four, six], { families: [4, 6] })).toBe("4+6 10.0.0.5 fd00::5");
    expect(choose("web-0", [six], { families: [4, 6] })).toBe("4+6 fd00::5");
  });

  it("counts from the first ordinal that the reservation names", () => {
    const late = reservation("late", ["10.0.0.5", "10.0.0.6"], { annotations: { "gingham.dev/first-ordinal": "5" } });
    expect(choose("web-6", [late])).toBe("4 10.0.0.6");
    expect(refusal(() => choose("web-4", [late]))).toMatch(
      /^NoAddress: IPReservation late has no IPv4 address for pod/,
    );
    const odd = reservation("odd", ["10.0.0.5"], { annotations: { "gingham.dev/first-ordinal": "-1" } });
    expect(refusal(() => choose("web-0", [odd]))).toMatch(/^InvalidNetworkConfig: IPReservation odd: .*"-1"/);
  });

  it("knows a pod by its controller, not by its name", () => {
    expect(choose("web-0", [web], { controller: { kind: "ReplicaSet", name: "web" } })).toBe("4");
    expect(choose("web-0", [web], { controller: { kind: "StatefulSet", name: "we" } })).toBe("4");
    expect(choose("web-0", [web], { pod: { namespace: "other", name: "web-0" } })).toBe("4");
    expect(ordinalOfPod("web-0-12", "web-0")).toBe(12);
    for (const name of ["web", "web-", "web-01", "web-x", "web-1-2", "db-1"])
      expect(ordinalOfPod(name, "web")).toBeUndefined();
  });

  it("gives a single pod its address, whoever made it, also one with a name that is too long for a label", () => {
    const name = "p".repeat(100);
    const one = reservation("one", ["10.0.0.9"], { kind: "Pod", owner: "db" });
    const long = reservation("long", ["10.0.0.7"], {
      kind: "Pod",
      owner: name,
      annotations: { "gingham.dev/owner-name": name },
    });
    const pod = (text: string) => ({ pod: { namespace: "default", name: text } });
    expect(choose("db", [one, long])).toBe("4 10.0.0.9");
    expect(choose(name, [one, long], pod(name))).toBe("4 10.0.0.7");
    expect(choose("db-0", [one, long])).toBe("4");
  });

  it.each([
    ["an ordinal without an address", "web-9", [web], "NoAddress: IPReservation web-addresses has no IPv4 address"],
    [
      "two reservations for one pod",
      "web-0",
      [reservation("a", ["10.0.0.5"]), reservation("b", ["10.0.0.6"])],
      "InvalidNetworkConfig: IPReservations a and b each keep",
    ],
    [
      "an entry that cannot be read, behind which nobody knows the order",
      "web-1",
      [reservation("typo", ["10.0.0.5", "10.0.0,6", "10.0.0.7"])],
      'InvalidNetworkConfig: IPReservation typo has "10.0.0,6"',
    ],
    [
      "another kind of owner",
      "web-0",
      [reservation("kind", ["10.0.0.5"], { kind: "statefulset" })],
      'InvalidNetworkConfig: IPReservation kind has label gingham.dev/owner-kind with "statefulset"',
    ],
    [
      "addresses of a family that the pod does not get",
      "web-0",
      [reservation("six", ["fd00::5"])],
      "InvalidNetworkConfig: IPReservation six keeps IPv6 addresses for pod default/web-0, but",
    ],
  ])("refuses %s, and names the reservation", (_what, pod, reservations, start) => {
    expect(refusal(() => choose(pod, reservations)).slice(0, start.length)).toBe(start);
  });

  it("lets the annotation decide before CNI_ARGS before reservations, and each decides the families", () => {
    const need = { families: [4, 6] as const, annotated: [parseIP("10.9.0.1")], asked: [parseIP("fd09::1")] };
    expect(choose("web-0", [web], need)).toBe("4 10.9.0.1");
    expect(choose("web-0", [web], { families: [4], asked: [parseIP("fd09::1")] })).toBe("6 fd09::1");
    expect(choose("web-0", [web], { families: [4, 6], annotated: [parseIP("fd09::2"), parseIP("10.9.0.2")] })).toBe(
      "6+4 fd09::2 10.9.0.2",
    );
  });

  it("keeps a reserved address from everybody but its owner, even by name", () => {
    const annotated = [parseIP("10.0.0.8")];
    expect(choose("web-1", [web], { annotated })).toBe("4 10.0.0.8");
    const stranger = {
      annotated,
      pod: { namespace: "default", name: "db-0" },
      controller: { kind: "StatefulSet", name: "db" },
    };
    const text = "NoAddress: Address 10.0.0.8 is kept by IPReservation web-addresses for StatefulSet default/web";
    expect(refusal(() => choose("", [web], stranger))).toBe(
      `${text}, not for pod default/db-0; ask for another address, or see gingham ipam show 10.0.0.8`,
    );
    expect(
      refusal(() => chooseAddresses({ reservations: [web], families: [4], asked: [parseIP("10.0.0.8")] })),
    ).toContain("not for a container without a pod");
  });
});
