import type { Finding } from '../../dashboard/detect/finding.ts'

/** A finding for tests of what happens to findings. */
export function someFinding(change: Partial<Finding> = {}): Finding {
  return {
    pattern: 'PRB-SPREAD', fleet: 'demo', bucket: '7f3c000000000000', device: '', stratum: 'E3-net', severity: 'high',
    title: 'Possible attack: the same memory corruption on 5 devices in 4 h: heap-buffer-overflow in parse_range',
    opens: true, firstEvent: Date.UTC(2026, 10, 20, 8), lastEvent: Date.UTC(2026, 10, 20, 11, 59), devices: 5, crashes: 6, lnP: -24,
    evidence: {
      queue: 'security', what: '5 devices crashed in the same way within 6 h', facts: [{ name: 'devices', value: '5 in 6 h', usual: 'under 0.01 in 6 h' }],
      for: [{ slug: 'many-versions', text: '3 firmware versions are hit' }], against: [{ slug: 'outage', text: 'an outage is going on' }], unknown: ['which networks'],
      series: [{ at: '2026-11-20T11:00:00.000Z', devices: 5 }], score_terms: [{ name: 'rarity', value: 24 }, { name: 'memory corruption', value: 2 }],
      false_alarms: 'not known yet', do_now: ['Mark the verdict.'], attack: [{ id: 'T1210', name: 'Exploitation of Remote Services' }],
      devices: ['d1', 'd2', 'd3', 'd4', 'd5'], firmware: [{ swversion: '4.1.0', devices: 5 }], sources: [{ source: '203.0.113.0/24', devices: 5 }], peers: [],
      buckets: ['7f3c000000000000'], first_crash_ids: ['c1'],
    },
    query: 'SELECT 1', queryParams: { fleet: 'demo' }, ...change,
  }
}
