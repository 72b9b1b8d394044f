import { Counter, Gauge, Histogram } from 'prom-client'
import type { Metrics } from '../infra/service/metrics.ts'

/** What ingest counts. No label holds a device, a fleet or anything else that a sender chooses. */
export type IngestMetrics = ReturnType<typeof registerIngestMetrics>

/** `registryAge`: seconds since the registry was last read, or null. `uploads`: how many resumable ones are under way. */
export function registerIngestMetrics(metrics: Metrics, { registryAge, uploads }: { registryAge: () => number | null; uploads: () => number }) {
  const registers = [metrics]
  return {
    requests: new Counter({
      name: 'overrun_ingest_requests_total', labelNames: ['route', 'code'], registers,
      help: 'Answered requests. A rise of 202 is more crashes; of 4xx, see overrun_ingest_rejected_total; of 503, the log cannot keep up and devices hold their reports.',
    }),
    rejected: new Counter({
      name: 'overrun_ingest_rejected_total', labelNames: ['reason'], registers,
      help: 'Reports that were not taken, by slug. A rise of signature-bad or anchor-unknown is somebody trying to forge reports or a fleet whose anchor is missing here; of quota-device, a crash loop; of quota-issuer or quota-fleet, a storm on many devices (the table refusals says which); of counter-reuse, a cloned key.',
    }),
    accepted: new Counter({
      name: 'overrun_ingest_accepted_total', labelNames: ['auth_level', 'standing'], registers,
      help: 'Reports made durable. A rise of standing other than counted is cloned keys, rolled-back flash or devices after a factory reset.',
    }),
    offers: new Counter({
      name: 'overrun_ingest_offers_total', labelNames: ['answer'], registers,
      help: 'Offers by what the device was told. A rise of known is one crash on many devices; of send, many different crashes or a new firmware.',
    }),
    heartbeats: new Counter({
      name: 'overrun_ingest_heartbeats_total', labelNames: ['standing'], registers,
      help: 'Heartbeats made durable. A fall means that devices went silent; a rise of stale-counter, that somebody plays old ones again.',
    }),
    bytes: new Counter({
      name: 'overrun_ingest_bytes_total', registers,
      help: 'Bytes of dumps made durable. A rise without more crashes is larger dumps.',
    }),
    requestSeconds: new Histogram({
      name: 'overrun_ingest_request_seconds', registers, buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      help: 'From the headers of a request to its answer. A rise is a slow log or slow links: compare with overrun_signature_verify_seconds.',
    }),
    verifySeconds: new Histogram({
      name: 'overrun_signature_verify_seconds', registers, buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1],
      help: 'From a decoded manifest to a proven or refused sender. A rise is a busy thread pool: this process is at its limit.',
    }),
    publishErrors: new Counter({
      name: 'overrun_queue_publish_errors_total', registers,
      help: 'Reports that the log did not confirm in time; each was answered 503. Any rise means that the log is down, full or too slow.',
    }),
    bytesInFlight: new Gauge({
      name: 'overrun_ingest_bytes_in_flight', registers,
      help: 'Bytes of dumps held in memory now. Near the limit (limits.bytesInFlight) new reports get 503.',
    }),
    uploads: new Gauge({
      name: 'overrun_ingest_uploads', registers, collect() { this.set(uploads()) },
      help: 'Resumable uploads under way. Near the limit (uploads.most) new ones get 503: devices begin and do not finish.',
    }),
    registryAge: new Gauge({
      name: 'overrun_ingest_registry_age_seconds', registers, collect() { this.set(registryAge() ?? NaN) },
      help: 'Since anchors, settings and device states were last read. A rise means that ClickHouse is away: a revocation made meanwhile is not in effect here.',
    }),
  }
}
