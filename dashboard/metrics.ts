import { Counter, Gauge, Histogram } from 'prom-client'
import type { Metrics } from '../infra/service/metrics.ts'

/** What the dashboard counts. */
export function registerDashboardMetrics(metrics: Metrics) {
  const registers = [metrics]
  return {
    requests: new Counter({
      name: 'overrun_dashboard_requests_total', labelNames: ['route', 'code'], registers,
      help: 'Answered requests. A rise of 401 is somebody without the token; of 5xx, ClickHouse is away or a query fails: see the log by request id.',
    }),
    seconds: new Histogram({
      name: 'overrun_dashboard_request_seconds', labelNames: ['route'], registers, buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20],
      help: 'From the headers of a request to its answer. A rise is long time ranges or a busy ClickHouse.',
    }),
    failedLogins: new Counter({
      name: 'overrun_dashboard_failed_logins_total', registers,
      help: 'Sign-ins with a wrong token. A rise is somebody guessing.',
    }),
    symbolUploads: new Counter({
      name: 'overrun_symbol_uploads_total', labelNames: ['protocol', 'result'], registers,
      help: 'Symbol files by what became of them. A rise of refused is a build that uploads what cannot be used; no rise at a release, a build that uploads nothing.',
    }),
    streams: new Gauge({
      name: 'overrun_sse_clients', registers,
      help: 'Pages that are told of changes now. At the configured limit further pages ask every 30 s instead.',
    }),
  }
}
