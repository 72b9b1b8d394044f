import { useQueryClient } from '@tanstack/react-query'
import { Link, Outlet, useNavigate, useSearch } from '@tanstack/react-router'
import { useMemo, useState, type FormEvent } from 'react'
import type { Overview, Whoami } from '../../api/contract.ts'
import { ApiError, call, useApi } from './api.ts'
import { useLive } from './live.ts'
import { Badge, useKeys } from './parts/basics.tsx'

const PAGES = [['/', 'Overview'], ['/campaigns', 'Campaigns'], ['/buckets', 'Buckets'], ['/devices', 'Devices'], ['/symbols', 'Symbols'], ['/settings', 'Settings']] as const

/** Nothing is asked of the API before somebody has signed in. */
export function Shell() {
  const whoami = useApi<Whoami>('/whoami')
  if (whoami.data !== undefined) return <SignedIn whoami={whoami.data} />
  if (whoami.error?.problem.status === 401) return <Login />
  if (whoami.error) return <div className="login panel" role="alert"><h1>{whoami.error.problem.title}</h1><p>{whoami.error.problem.hint}</p></div>
  return <div className="empty" role="status">Loading …</div>
}

function SignedIn({ whoami }: { whoami: Whoami }) {
  const live = useLive()
  const navigate = useNavigate()
  const overview = useApi<Overview>('/overview')
  useKeys(useMemo(() => ({
    b: () => void navigate({ to: '/buckets' }),
    c: () => void navigate({ to: '/campaigns' }),
    d: () => void navigate({ to: '/devices' }),
    '/': () => document.querySelector<HTMLInputElement>('input[type=search]')?.focus(),
  }), [navigate]))
  return (
    <div className="shell">
      <nav className="nav" aria-label="Pages">
        <div className="brand"><img src="/icon.svg" alt="" />Overrun</div>
        {PAGES.map(([to, name]) => (
          <Link key={to} to={to} className="item" activeProps={{ className: 'item active' }} activeOptions={{ exact: to === '/' }}>
            {name}
            {to === '/campaigns' && (overview.data?.open_alerts ?? 0) > 0 && <Badge tone="attack" title="Open alerts">{overview.data?.open_alerts}</Badge>}
          </Link>
        ))}
        <div className="foot"><span className={`live ${live ? 'on' : ''}`} />{live ? 'Live' : 'Reconnecting'}<br /><FleetChoice whoami={whoami} /><br />Overrun {whoami.version}<br /><a href="/docs">API</a></div>
      </nav>
      <Outlet />
    </div>
  )
}

function FleetChoice({ whoami }: { whoami: Whoami }) {
  const { fleet = whoami.fleet } = useSearch({ strict: false })
  const navigate = useNavigate()
  const fleets = [...new Set([whoami.fleet, fleet, ...whoami.fleets])].sort()
  if (fleets.length === 1) return <>Fleet <b>{fleet}</b></>
  return <label>Fleet <select value={fleet} onChange={(event) => void navigate({ to: '/', search: { fleet: event.target.value } })}>{fleets.map((name) => <option key={name}>{name}</option>)}</select></label>
}

function Login() {
  const client = useQueryClient()
  const [token, setToken] = useState('')
  const [problem, setProblem] = useState<string | null>(null)
  const submit = async (event: FormEvent) => {
    event.preventDefault()
    try {
      await call('/login', { method: 'POST', body: { token: token.trim() } })
      await client.resetQueries()
    } catch (error) {
      setProblem(error instanceof ApiError ? `${error.problem.title}. ${error.problem.hint}` : 'The dashboard does not answer.')
    }
  }
  return (
    <main className="login panel">
      <h1>Overrun</h1>
      <p className="muted">Crashes hold memory of your devices: nothing is shown without the token that was printed at start.</p>
      <form onSubmit={(event) => void submit(event)}>
        <label className="visually-hidden" htmlFor="token">Token</label>
        <input id="token" type="password" autoComplete="current-password" placeholder="Token" value={token} onChange={(event) => setToken(event.target.value)} autoFocus />
        <button className="action primary" type="submit">Sign in</button>
      </form>
      {problem !== null && <p role="alert">{problem}</p>}
    </main>
  )
}
