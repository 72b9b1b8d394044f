import { BlockList, isIP } from 'node:net'

/**
 * Where a webhook may not go, unless its settings allow it: addresses that are only reachable from inside, such as the
 * metadata service of a cloud or the database beside us. Special-purpose ranges of RFC 6890 and its registry; the IPv6
 * forms that carry an IPv4 address are judged by that address or refused whole.
 */
const INSIDE = new BlockList()
for (const [net, prefix] of [
  ['0.0.0.0', 8], ['10.0.0.0', 8], ['100.64.0.0', 10], ['127.0.0.0', 8], ['169.254.0.0', 16], ['172.16.0.0', 12], ['192.0.0.0', 24],
  ['192.168.0.0', 16], ['198.18.0.0', 15], ['224.0.0.0', 4], ['240.0.0.0', 4],
] as const) INSIDE.addSubnet(net, prefix, 'ipv4')
for (const [net, prefix] of [
  ['::', 128], ['::1', 128], ['::', 96], ['64:ff9b::', 96], ['64:ff9b:1::', 48], ['100::', 64], ['2001::', 32], ['2002::', 16], ['fc00::', 7], ['fe80::', 10], ['fec0::', 10], ['ff00::', 8],
] as const) INSIDE.addSubnet(net, prefix, 'ipv6')

/** True for a literal IP address outside every inside range; anything that isn't an address is not public. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address)
  // BlockList judges ::ffff:a.b.c.d by its IPv4 rules.
  return family !== 0 && !INSIDE.check(address, family === 4 ? 'ipv4' : 'ipv6')
}
