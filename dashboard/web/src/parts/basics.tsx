import { useEffect, useState, type ReactNode } from 'react'
import type { UseQueryResult } from '@tanstack/react-query'
import type { ApiError } from '../api.ts'
import { EVIDENCE } from '../words.ts'

type Tone = '' | 'ok' | 'warn' | 'crit' | 'attack'

export const Badge = ({ tone = '', title, children }: { tone?: Tone; title?: string; children: ReactNode }) => <span className={`badge ${tone}`} title={title}>{children}</span>

/** Severity is a word and a colour, never a colour alone. */
export function EvidenceBadge({ level }: { level: number }) {
  const evidence = EVIDENCE[level] ?? EVIDENCE[0]
  return <Badge tone={evidence.tone} title={`Evidence class ${evidence.name}: ${evidence.words}`}>{evidence.name} {evidence.words}</Badge>
}

export function AuthBadge({ level, protection }: { level: string; protection?: string }) {
  const key = protection === 'hardware' ? ', key in hardware' : protection === 'software' ? ', key in software' : ''
  if (level === 'payload-signed') return <Badge tone="ok" title={`The dump itself is signed by the device${key}`}>✓ signed{key}</Badge>
  if (level === 'transport-authenticated') return <Badge tone="warn" title="The connection was authenticated, the dump is not signed">transport only</Badge>
  if (level === 'pending') return <Badge tone="warn" title="It proves who it is, and nobody has admitted it yet; it stays out of every baseline">not admitted</Badge>
  return <Badge tone="crit" title="Nothing proves who sent this; it stays out of every baseline">unproven</Badge>
}

export function SeverityBadge({ severity }: { severity: string }) {
  const tone: Tone = severity === 'critical' || severity === 'high' || severity === 'exploitable' ? 'crit' : severity === 'medium' || severity === 'probably-exploitable' ? 'warn' : ''
  return <Badge tone={tone}>{severity}</Badge>
}

export function Page({ title, sub, actions, children }: { title: ReactNode; sub?: ReactNode; actions?: ReactNode; children: ReactNode }) {
  return (
    <main className="page">
      <div className="head">
        <div><h1>{title}</h1>{sub !== undefined && <div className="sub">{sub}</div>}</div>
        {actions}
      </div>
      {children}
    </main>
  )
}

/** An empty state says what to do. */
export const Empty = ({ children, command }: { children: ReactNode; command?: string }) => (
  <div className="empty">{children}{command !== undefined && <><br /><pre>{command}</pre></>}</div>
)

export function Loaded<T>({ answer, children }: { answer: UseQueryResult<T, ApiError>; children: (data: T) => ReactNode }) {
  if (answer.data !== undefined) return <>{children(answer.data)}</>
  if (answer.error) return <Problem error={answer.error} />
  return <div className="empty" role="status">Loading …</div>
}

export const Problem = ({ error }: { error: ApiError }) => (
  <div className="panel" role="alert">
    <h2>{error.problem.title}</h2>
    <p>{error.problem.detail}</p>
    <p className="muted">{error.problem.hint}{error.problem.request_id !== '' && <> Request <code>{error.problem.request_id}</code>.</>}</p>
  </div>
)

export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false)
  useEffect(() => {
    if (!copied) return
    const timer = window.setTimeout(() => setCopied(false), 1500)
    return () => window.clearTimeout(timer)
  }, [copied])
  return (
    <div className="command">
      <pre>{text}</pre>
      <button className="action" type="button" onClick={() => void navigator.clipboard.writeText(text).then(() => setCopied(true))}>{copied ? 'Copied' : 'Copy'}</button>
    </div>
  )
}

export function Tabs<T extends string>({ names, value, onChange }: { names: readonly (readonly [T, string])[]; value: T; onChange: (name: T) => void }) {
  return (
    <div className="tabs" role="tablist">
      {names.map(([name, label]) => <button key={name} role="tab" type="button" aria-selected={name === value} onClick={() => onChange(name)}>{label}</button>)}
    </div>
  )
}

export const Facts = ({ rows }: { rows: (readonly [string, ReactNode] | null)[] }) => (
  <dl className="facts">{rows.map((row) => row !== null && row[1] !== '' && row[1] !== null && <Fact key={row[0]} name={row[0]} value={row[1]} />)}</dl>
)
const Fact = ({ name, value }: { name: string; value: ReactNode }) => <><dt>{name}</dt><dd>{value}</dd></>

/** Keys never fire while somebody types. */
export function useKeys(keys: Record<string, () => void>) {
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) return
      const action = keys[event.key]
      if (action === undefined) return
      event.preventDefault()
      action()
    }
    window.addEventListener('keydown', pressed)
    return () => window.removeEventListener('keydown', pressed)
  }, [keys])
}
