import type { Alert } from '../detect/alerts.ts'
import type { Severity } from '../detect/finding.ts'

/**
 * An alert as an OCSF Detection Finding (class 2004), the form that security tools read. `finding_info.uid` is the alert's
 * id over its whole life; each message is Create, Update or Close. Attributes as of OCSF 1.7. https://schema.ocsf.io
 */
const ACTIVITY = { opened: 1, worse: 2, reopened: 2, resolved: 3 } as const
const SEVERITY = { info: 1, low: 2, medium: 3, high: 4, critical: 5 } as const satisfies Record<Severity, number>
const STATUS = { open: 1, resolved: 4 } as const
const CONFIDENCE_MEDIUM = 2
const ANALYTIC_TYPE = { RULE: 1, STATISTICAL: 3 } as const
const MAX_RESOURCES = 20

export function toDetectionFinding(alert: Alert, link: string): Record<string, unknown> {
  const activity = ACTIVITY[alert.evidence.tell.what]
  return {
    activity_id: activity, category_uid: 2, class_uid: 2004, type_uid: 200400 + activity, severity_id: SEVERITY[alert.severity], status_id: STATUS[alert.state],
    confidence_id: CONFIDENCE_MEDIUM, is_alert: alert.evidence.queue === 'security', time: alert.updatedAt, start_time: alert.firstEvent, end_time: alert.lastEvent,
    count: alert.crashes, message: alert.evidence.what,
    metadata: { version: '1.7.0', product: { name: 'Overrun', vendor_name: 'Overrun' }, uid: `${alert.id}:${alert.version}`, correlation_uid: alert.id, tenant_uid: alert.fleet },
    finding_info: {
      uid: alert.id, title: alert.title, created_time: alert.openedAt, modified_time: alert.updatedAt, first_seen_time: alert.firstEvent, last_seen_time: alert.lastEvent, src_url: link,
      analytic: { type_id: alert.pattern === 'PRB-SPREAD' ? ANALYTIC_TYPE.STATISTICAL : ANALYTIC_TYPE.RULE, name: alert.pattern, uid: `overrun/${alert.pattern}` },
      attacks: alert.evidence.attack.map(({ id, name }) => ({ technique: { uid: id, name } })),
    },
    resources: alert.evidence.devices.slice(0, MAX_RESOURCES).map((device) => ({ uid: device, type: 'device' })),
    evidences: [{ data: { buckets: alert.evidence.buckets, for: alert.evidence.for, against: alert.evidence.against, unknown: alert.evidence.unknown, first_crash_ids: alert.evidence.first_crash_ids } }],
  }
}
