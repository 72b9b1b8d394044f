/**
 * The Gamma-Poisson predictive tail in ClickHouse's SQL: how surprising are n devices, given N in the time before?
 *
 * n distinct devices crashed in the last W hours, N device-days in the T hours before. With a Jeffreys prior (shape 0.5,
 * rate 0) the count X of the next W hours is negative binomial with r = N + 0.5 and q = W / (T + W), and
 *   P(X >= n) = I_q(n, r) = sum over k >= n of Gamma(k+r) / (Gamma(r) k!) (1-q)^r q^k
 * which needs no special case for a bucket that was never seen (N = 0).
 *
 * Probabilities down to 1e-300 decide here, so everything is summed in logarithms and ln p is the result. Above the mean
 * the terms fall at least geometrically and are summed upwards, n + 60 of them. Below the mean that sum would leave out
 * nearly everything (n=1, N=20000, W=6 h would give 3e-24 where the truth is 1), so there the complement is summed.
 *
 * The engine has no incomplete beta function; its lgamma is good to 4e-11 here. `${LN_TAIL_SQL}` goes at the head of a
 * WITH and defines ln_tail(n, r, q); n >= 0 whole, r > 0 real, 0 < q < 1.
 */
export const LN_TAIL_SQL = `
  (k, r, q) -> lgamma(k + r) - lgamma(r) - lgamma(k + 1) + r * log1p(-q) + k * log(q) AS ln_mass,
  (n, r, q) -> if(n <= r * q / (1 - q),
    log1p(-least(arraySum(k -> exp(ln_mass(k, r, q)), range(toUInt64(n))), 1)),
    ln_mass(n, r, q) + log(arraySum(k -> exp(ln_mass(n + k, r, q) - ln_mass(n, r, q)), range(toUInt64(n) + 60)))) AS ln_tail`
