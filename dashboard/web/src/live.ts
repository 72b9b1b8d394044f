import { useQueryClient } from '@tanstack/react-query'
import { useEffect, useState } from 'react'

/** The stream only hints that something changed; the pages ask again, at most once a second. */
export function useLive(): boolean {
  const client = useQueryClient()
  const [live, setLive] = useState(false)
  useEffect(() => {
    const stream = new EventSource('/api/v1/stream')
    let timer: number | undefined
    const changed = () => {
      timer ??= window.setTimeout(() => {
        timer = undefined
        void client.invalidateQueries()
      }, 1000)
    }
    stream.onopen = () => setLive(true)
    stream.onerror = () => setLive(false)
    stream.onmessage = changed
    for (const type of ['alert', 'bucket', 'event']) stream.addEventListener(type, changed)
    return () => {
      stream.close()
      window.clearTimeout(timer)
    }
  }, [client])
  return live
}
