import type { Alert } from '../detect/alerts.ts'
import { SAMPLE } from '../detect/finding.ts'
import * as words from '../detect/words.ts'

/**
 * An alert for people, as plain text: what happened, why it may be an attack, why it may not, and what to do now.
 * Never "exploit confirmed": that is for people to say. Strings of crashes are hostile, so control characters go.
 */
export function formatAlert(alert: Alert, link: string): string {
  const { evidence } = alert
  const terms = evidence.score_terms.map(({ name, value }) => `${name} ${value}`).join(' + ')
  const lines: [string, string][] = [
    ['What happened', evidence.what],
    ...evidence.facts.map(({ name, value, usual }): [string, string] => ['', `${name}: ${value}${usual === undefined ? '' : ` (usual: ${usual})`}`]),
    ['Why an attack', evidence.for.map(({ text }) => text).join('; ') || 'nothing beyond the above'],
    ['Why not', evidence.against.map(({ text }) => text).join('; ') || 'nothing was found that speaks against it'],
    ['Unknown', evidence.unknown.join('; ') || 'nothing that the detector asks for'],
    ['Score', `${Math.round(alert.score)} = ${terms}`],
    ['This detector', evidence.false_alarms],
    ['Affected', `firmware ${evidence.firmware.map(({ swversion, devices }) => `${swversion || 'unknown'} (${devices})`).join(', ') || 'unknown'} | ${sampleOf(evidence.devices, alert.devices)}`],
    ['When', `first ${time(alert.firstEvent)}, last ${time(alert.lastEvent)}`],
    ...(evidence.attack.length > 0 ? [['ATT&CK', evidence.attack.map(({ id, name }) => `${id} ${name}`).join('; ')] satisfies [string, string]] : []),
    ['Do now', evidence.do_now.map((step, index) => `${index + 1} ${step}`).join('  ')],
    ['Link', link],
  ]
  const head = `${alert.state === 'resolved' ? 'RESOLVED' : alert.severity.toUpperCase()}  ${alert.pattern}  ${alert.title}`
  return [head, ...lines.map(([name, text]) => `${name.padEnd(15)} ${text}`)].map(printable).join('\n') + '\n'
}

function sampleOf(devices: readonly string[], count: number): string {
  const shown = devices.slice(0, 3)
  return `${words.devices(count)}: ${shown.join(', ')}${count > shown.length ? ` (+${count - shown.length}${count > SAMPLE ? ', see the page' : ''})` : ''}`
}

const time = (ms: number): string => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`

/** No control characters, no direction overrides: a crash must not redraw somebody's terminal. */
const printable = (line: string): string => line.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '?')
