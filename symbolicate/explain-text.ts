/**
 * One analysis for people: what crashed, what speaks for and against an attack, the stack with the trust of each frame,
 * why this is its bucket, and which modules lack symbols. Whatever came from the dump is printed without control
 * characters: a crash must not move somebody's terminal cursor.
 */
import type { Analysis, ReportFrame, ReportModule, ReportThread } from './contract.ts'
import { demangle } from './symbols/demangle.ts'

const MAX_FRAMES = 64

export function explainText(analysis: Analysis): string {
  const sections = [crash(analysis), evidence(analysis), facts(analysis), stack(analysis), otherThreads(analysis), signature(analysis), modules(analysis), notes(analysis)]
  return `${sections.filter((lines) => lines.length > 0).map((lines) => lines.map(printable).join('\n')).join('\n\n')}\n`
}

function crash({ status, statusReason, kind, access, evidence: { faultAddress, addressClass }, signature: { title }, report }: Analysis): string[] {
  const { type, assertion, crashing_thread: thread } = report.crash_info
  const { os, os_ver: version, cpu_arch: cpu } = report.system_info
  return [
    title,
    `  status    ${status}${statusReason && `: ${statusReason}`}`,
    `  crash     ${type ?? 'nothing said'}${faultAddress === null ? '' : ` at ${hex(faultAddress)} (${addressClass})`}`,
    `  kind      ${kind}${access === 'unknown' ? '' : `, ${access}`}`,
    ...(assertion === null ? [] : [`  message   ${assertion}`]),
    `  system    ${os}${version === null ? '' : ` ${version}`}, ${cpu}; format ${report.format}${thread === null ? '' : `; thread ${thread}`}${report.pid === null ? '' : `; pid ${report.pid}`}`,
  ]
}

function evidence({ evidence: { class: level, severity, cwe, for: speaksFor, against, pattern } }: Analysis): string[] {
  return [
    `Evidence E${level} (${CLASSES[level]}), if a bug ${severity}${cwe.length === 0 ? '' : `, ${cwe.map((id) => `CWE-${id}`).join(' ')}`}${pattern === null ? '' : `, ${pattern} pattern`}`,
    ...speaksFor.map(({ slug, text }) => `  + ${slug}: ${text}`),
    ...against.map(({ slug, text }) => `  - ${slug}: ${text}`),
  ]
}
const CLASSES = ['environment', 'robustness', 'suspicious memory fault', 'corruption caught, or wild write', 'control-flow evidence'] as const

const MAX_FACTS = 32

/** What the dump says by name: fault registers in words, the chip, a client's annotations. */
function facts({ report: { annotations } }: Analysis): string[] {
  const all = Object.entries(annotations)
  return all.length === 0 ? [] : [
    'The dump says', ...all.slice(0, MAX_FACTS).map(([name, value]) => `  ${name}: ${value.length > 240 ? `${value.slice(0, 240)}...` : value}`),
    ...(all.length > MAX_FACTS ? [`  ... ${all.length - MAX_FACTS} more`] : []),
  ]
}

function stack({ report: { crashing_thread: thread } }: Analysis): string[] {
  return thread === null ? [] : [`Thread ${thread.thread_id}${thread.thread_name === null ? '' : ` "${thread.thread_name}"`} crashed`, ...frames(thread)]
}

function frames({ frames: all, frames_omitted: omitted }: ReportThread): string[] {
  const shown = all.slice(0, MAX_FRAMES).flatMap(frameLines)
  const hidden = all.length - Math.min(all.length, MAX_FRAMES) + omitted
  return hidden === 0 ? shown : [...shown, `      ... ${hidden} more`]
}

function frameLines(frame: ReportFrame): string[] {
  const inlined = (frame.inlines ?? []).map(({ function: name, file, line }) => `  ${String(frame.frame).padStart(3)} inline          ${demangle(name)}${place(file, line)}`)
  const name = frame.function === null ? '??' : demangle(frame.function) + (frame.approximate ? ` ~${frame.function_offset ?? ''}` : '')
  const module = frame.module === null ? (frame.function === null ? ` ${frame.offset}` : '') : `  [${frame.module}${frame.module_offset === null ? '' : `+${short(frame.module_offset)}`}]`
  const repeats = frame.repeats === undefined || frame.repeats < 2 ? '' : `  x${frame.repeats}`
  return [...inlined, `  ${String(frame.frame).padStart(3)} ${frame.trust.padEnd(15)} ${name}${place(frame.file, frame.line)}${module}${repeats}`]
}

function otherThreads({ report: { threads, crashing_thread: crashed } }: Analysis): string[] {
  const others = threads.filter(({ threads_index: index }) => index !== crashed?.threads_index)
  return others.length === 0 ? [] : [
    `Other threads (${others.length})`,
    ...others.slice(0, 32).map(({ thread_id: id, thread_name: name, frames: list }) => `  ${id}${name === null ? '' : ` "${name}"`}: ${list.slice(0, 4).map((frame) => demangle(frame.function ?? frame.module ?? '??')).join(' < ') || 'no frames'}`),
    ...(others.length > 32 ? [`  ... ${others.length - 32} more`] : []),
  ]
}

function signature({ signature: { bucket, text, provisional, notes: changes, ruleset } }: Analysis): string[] {
  return [
    `Bucket ${bucket}${provisional ? ' (provisional: recomputed when symbols arrive)' : ''}, rule set ${ruleset}`,
    `  ${text}`,
    ...changes.map(({ rule, from, to, why }) => `  ${rule}: ${from === '' ? to || '-' : from}${to === '' ? ' left out' : from === '' || from === to ? '' : ` -> ${to}`} (${why})`),
  ]
}

function modules({ report: { modules: all } }: Analysis): string[] {
  const asked = all.filter(({ symbol_status: status }) => status !== 'not-asked')
  const rest = all.length - asked.length
  if (all.length === 0) return []
  return [`Modules (${all.length}${rest === 0 ? '' : `; ${rest} not on any stack`})`, ...asked.map(moduleLine)]
}

const moduleLine = ({ filename, debug_id: id, code_id: code, symbol_status: status, symbol_reason: reason }: ReportModule): string =>
  `  ${filename}  ${id ?? code ?? 'no id'}  symbols ${status}${reason === null ? '' : `: ${reason}`}`

const notes = ({ report: { notes: all } }: Analysis): string[] => (all.length === 0 ? [] : ['Notes', ...all.map(({ slug, text }) => `  ${slug}: ${text}`)])

const place = (file: string | null, line: number | null): string => (file === null ? '' : `  ${file}${line === null ? '' : `:${line}`}`)
const hex = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`
const short = (value: string): string => value.replace(/^0x0+(?=[0-9a-f])/, '0x')
const printable = (line: string): string => line.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\ufffd')
