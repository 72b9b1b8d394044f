import { expect, test } from 'vitest'
import { renewedClient } from '../../infra/log/kafka-client.ts'

/** Clients that fail as kafkajs does, in the order in which they are made. */
function clients(...kinds: ('works' | 'is silent' | 'does not connect')[]) {
  const made: string[] = []
  const left: number[] = []
  const create = () => {
    const kind = kinds[made.length]!
    const number = made.push(kind) - 1
    return {
      connect: () => (kind === 'does not connect' ? Promise.reject(new Error('connection refused')) : Promise.resolve()),
      disconnect: () => { left.push(number); return kind === 'is silent' ? new Promise<void>(() => undefined) : Promise.resolve() },
      ask: () => (kind === 'is silent' ? new Promise<string>(() => undefined) : Promise.resolve(`answer of ${number}`)),
    }
  }
  return { made, left, create }
}

test('a call that never ends is given up at its deadline, and the next one goes to a new client', async () => {
  const { made, left, create } = clients('is silent', 'works')
  const client = renewedClient(create, 50)
  await expect(client.call((its) => its.ask())).rejects.toMatchObject({ code: 'log-timeout', retryable: true })
  expect(await client.call((its) => its.ask())).toBe('answer of 1')
  expect(await client.call((its) => its.ask())).toBe('answer of 1')
  expect([made.length, left]).toEqual([2, [0]])
  await client.disconnect()
  expect(left).toEqual([0, 1])
})

test('a client that could not connect is not asked again', async () => {
  const { create } = clients('does not connect', 'works')
  const client = renewedClient(create, 1_000)
  await expect(client.call((its) => its.ask())).rejects.toThrow('connection refused')
  expect(await client.call((its) => its.ask())).toBe('answer of 1')
})

test('an answer that says no is no reason for a new client', async () => {
  const { made, create } = clients('works', 'works')
  const client = renewedClient(create, 1_000)
  await expect(client.call(() => Promise.reject(new Error('unknown topic')))).rejects.toThrow('unknown topic')
  expect(await client.call((its) => its.ask())).toBe('answer of 0')
  expect(made.length).toBe(1)
})
