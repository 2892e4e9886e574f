// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseIPWithPrefix } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import type { KernelAddr, KernelLink } from "../ports.ts";
import { type Detection, detectAddress, formatCandidate, type HostFacts } from "./detect.ts";
import { parseMethod } from "./settings.ts";

/** `eth0 192.0.2.1/24 2001:db8::1/64`, in the order of indexes; `!` before a name: down; `~`: transient, `+`: secondary. */
function host(...lines: readonly string[]): Pick<HostFacts, "links" | "addrs"> {
  const links: KernelLink[] = [];
  const addrs: KernelAddr[] = [];
  for (const [i, line] of ["lo 127.0.0.1/8 ::1/128", ...lines].entries()) {
    const [name = "", ...texts] = line.split(" ");
    links.push({ ifIndex: i + 1, name: name.replace("!", ""), up: !name.startsWith("!"), mtuBytes: 1500 });
    for (const text of texts) {
      const addr = { ifIndex: i + 1, ...parseIPWithPrefix(text.replace(/^[~+]/, "")) };
      if (text.startsWith("~")) addrs.push({ ...addr, isTransient: true });
      else if (text.startsWith("+")) addrs.push({ ...addr, isSecondary: true });
      else addrs.push(addr);
    }
  }
  return { links, addrs };
}

function detect(
  method: string,
  family: 4 | 6,
  facts: Pick<HostFacts, "links" | "addrs">,
  more: Partial<HostFacts> = {},
): Detection {
  const parsed = parseMethod(method, family);
  if (parsed === undefined) throw new RangeError("No method");
  return detectAddress(parsed, family, { internalIPs: [], ...facts, ...more });
}

/** `192.0.2.1 on eth0 /24`, `? a, b`, or the reason. */
function say(detection: Detection): string {
  switch (detection.kind) {
    case "found":
      return `${formatCandidate(detection.candidate)} /${detection.candidate.prefixLength ?? "?"}`;
    case "ambiguous":
      return `? ${detection.candidates.map(formatCandidate).join(", ")}`;
    case "absent":
      return detection.why;
    default:
      return detection satisfies never;
  }
}

const TWO = host("eth0 192.0.2.1/24 2001:db8::1/64", "eth1 198.51.100.1/24 2001:db8:1::1/64");

describe("detectAddress()", () => {
  test.each([
    ["the newest link first", TWO, "198.51.100.1 on eth1 /24"],
    ["links that are down", host("eth0 192.0.2.1/24", "!eth1 198.51.100.1/24"), "192.0.2.1 on eth0 /24"],
    ["link-local and loopback addresses", host("eth0 192.0.2.1/24", "eth1 169.254.7.7/16"), "192.0.2.1 on eth0 /24"],
    ["a secondary address", host("eth0 +192.0.2.2/24 192.0.2.1/24"), "192.0.2.1 on eth0 /24"],
    ["a virtual IP beside a subnet", host("eth0 192.0.2.9/32 192.0.2.1/24"), "192.0.2.1 on eth0 /24"],
    ["a lone /32, as clouds give it", host("eth0 192.0.2.9/32"), "192.0.2.9 on eth0 /32"],
    ["a wireless card whose name has lo in it", host("wlo1 192.0.2.1/24"), "192.0.2.1 on wlo1 /24"],
    ["nothing", host(), "no link that is up has one"],
  ])("first-found with %s", (_, facts, expected) => {
    expect(say(detect("first-found", 4, facts))).toBe(expected);
  });

  test("first-found leaves out what Calico leaves out", () => {
    const names = (
      "docker0 cbr0 dummy0 podman1 virbr0 lxcbr0 veth1 br-1a2b cali1 tunl0 flannel.1 kube-ipvs0 cni0 " +
      "vxlan.calico vxlan-v6.calico wireguard.cali wg-v6.cali nodelocaldns"
    ).split(" ");
    const others = names.map((name, i) => `${name} 203.0.113.${i}/24 2001:db8:9::${i + 1}/64`);
    const facts = host("eth0 192.0.2.1/24 2001:db8::1/64", ...others);
    expect(say(detect("first-found", 4, facts))).toBe("192.0.2.1 on eth0 /24");
    expect(say(detect("first-found", 6, facts))).toBe("2001:db8::1 on eth0 /64");
  });

  test("takes no temporary, deprecated or tentative address of IPv6, and no link-local or multicast one", () => {
    const facts = host("eth0 fe80::1/64 ~2001:db8::77/64 2001:db8::1/64");
    expect(say(detect("first-found", 6, facts))).toBe("2001:db8::1 on eth0 /64");
    expect(say(detect("interface=eth0", 6, facts))).toBe("2001:db8::1 on eth0 /64");
    expect(say(detect("first-found", 6, host("eth0 ~2001:db8::77/64")))).toBe("no link that is up has one");
  });

  test.each([
    ["interface=eth0", "192.0.2.1 on eth0 /24"],
    ["interface=^none$,eth0", "192.0.2.1 on eth0 /24"],
    ["interface=eth.*", "? 198.51.100.1 on eth1, 192.0.2.1 on eth0"],
    ["interface=wlan", "no link that is up and matches has one"],
    ["skip-interface=eth1", "192.0.2.1 on eth0 /24"],
    ["skip-interface=wlan", "? 198.51.100.1 on eth1, 192.0.2.1 on eth0"],
    ["skip-interface=eth", "no other link that is up has one"],
    ["cidr=192.0.2.0/24", "192.0.2.1 on eth0 /24"],
    ["cidr=203.0.113.0/24,198.51.100.0/24", "198.51.100.1 on eth1 /24"],
    ["cidr=0.0.0.0/0", "? 198.51.100.1 on eth1, 192.0.2.1 on eth0"],
    ["cidr=10.0.0.0/8", "no link that is up has an address inside"],
  ])("%s", (method, expected) => {
    expect(say(detect(method, 4, TWO))).toBe(expected);
  });

  test("of several that suit, the node keeps the one that it has", () => {
    expect(say(detect("cidr=0.0.0.0/0", 4, TWO, { current: parseIP("192.0.2.1") }))).toBe("192.0.2.1 on eth0 /24");
    expect(say(detect("cidr=0.0.0.0/0", 4, TWO, { current: parseIP("203.0.113.1") }))).toMatch(/^\?/);
    const vip = host("eth0 192.0.2.1/24 192.0.2.9/32");
    expect(say(detect("interface=eth0", 4, vip))).toBe("192.0.2.1 on eth0 /24");
  });

  test("the address of a tunnel or a pod is never meant", () => {
    const facts = host("eth0 10.1.0.1/24", "vxlan.calico 10.0.0.1/32", "cali1 10.0.0.9/32");
    expect(say(detect("cidr=10.0.0.0/8", 4, facts))).toBe("10.1.0.1 on eth0 /24");
    expect(say(detect("interface=.*", 4, facts))).toBe("10.1.0.1 on eth0 /24");
  });

  test("can-reach takes the kernel's source, with the length of its link", () => {
    const source = parseIP("198.51.100.1");
    expect(say(detect("can-reach=203.0.113.1", 4, TWO, { source }))).toBe("198.51.100.1 on eth1 /24");
    expect(say(detect("can-reach=203.0.113.1", 4, TWO))).toBe("there is no way to 203.0.113.1");
  });

  test("kubernetes-internal-ip takes the Node's, with the length of its link", () => {
    const internalIPs = ["192.0.2.1", "2001:db8:1::1"].map(parseIP);
    expect(say(detect("kubernetes-internal-ip", 4, TWO, { internalIPs }))).toBe("192.0.2.1 on eth0 /24");
    expect(say(detect("kubernetes-internal-ip", 6, TWO, { internalIPs }))).toBe("2001:db8:1::1 on eth1 /64");
    expect(say(detect("kubernetes-internal-ip", 4, host(), { internalIPs }))).toBe("192.0.2.1 /?");
    expect(say(detect("kubernetes-internal-ip", 4, TWO))).toBe("the Node has no InternalIP of IPv4");
    const both = ["192.0.2.1", "198.51.100.1"].map(parseIP);
    expect(say(detect("kubernetes-internal-ip", 4, TWO, { internalIPs: both }))).toMatch(/^\? 192\.0\.2\.1 on eth0/);
  });
});
