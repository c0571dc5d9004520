// The network over the candidates of one pool, forwards and backwards, for one instruction set. Lanes are hidden units, so that
// a candidate's inputs are read one after another, as they lie; units are filled up to whole vectors with ones that stay 0.

constexpr std::size_t kRowsAtOnce = 4, kInputsAtOnce = 8;

// max(0, x·W + b) of N candidates from `row` on, for the units from `unit` on.
template <std::size_t N>
TWHIN_INLINE void activate_some(const Layer& layer, const Pool& pool, std::size_t row, std::size_t unit) {
  Floats sums[N];
  for (Floats& sum : sums) sum = load(layer.bias + unit);
  const float* const x = pool.inputs + row * layer.features;
  for (std::size_t f = 0; f < layer.features; ++f) {
    const Floats weights = load(layer.weights + f * layer.units + unit);
    for (std::size_t i = 0; i < N; ++i) sums[i] = fused(all(x[i * layer.features + f]), weights, sums[i]);
  }
  for (std::size_t i = 0; i < N; ++i) store(pool.active + (row + i) * layer.units + unit, larger(sums[i], Floats{}));
}

TWHIN_TARGET void forward(const Layer& layer, const Pool& pool) {
  for (std::size_t unit = 0; unit < layer.units; unit += kLanes) {
    std::size_t row = 0;
    for (; row + kRowsAtOnce <= pool.rows; row += kRowsAtOnce) activate_some<kRowsAtOnce>(layer, pool, row, unit);
    for (; row < pool.rows; ++row) activate_some<1>(layer, pool, row, unit);
  }
  for (std::size_t row = 0; row < pool.rows; ++row) {
    Floats sum{};
    for (std::size_t unit = 0; unit < layer.units; unit += kLanes)
      sum = fused(load(pool.active + row * layer.units + unit), load(layer.out + unit), sum);
    float score = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) score += sum[lane];
    pool.scores[row] = score;
  }
}

// Adds to the gradient of N inputs' weights, from the input `f` on, what each candidate's slope makes of them.
template <std::size_t N>
TWHIN_INLINE void collect_some(const Layer& layer, const Pool& pool, std::size_t f, std::size_t unit) {
  Floats sums[N];
  for (std::size_t j = 0; j < N; ++j) sums[j] = Floats{};
  for (std::size_t row = 0; row < pool.rows; ++row) {
    const Floats back = load(pool.back + row * layer.units + unit);
    const float* const x = pool.inputs + row * layer.features + f;
    for (std::size_t j = 0; j < N; ++j) sums[j] = fused(all(x[j]), back, sums[j]);
  }
  for (std::size_t j = 0; j < N; ++j) store(pool.gradient + (f + j) * layer.units + unit, sums[j]);
}

// Writes the pool's gradient: a row of units for each input, then that of the bias, then that of the way out.
TWHIN_TARGET void backward(const Layer& layer, const Pool& pool) {
  for (std::size_t unit = 0; unit < layer.units; unit += kLanes) {
    const Floats out = load(layer.out + unit), nothing{};
    Floats of_bias{}, of_out{};
    for (std::size_t row = 0; row < pool.rows; ++row) {
      const Floats active = load(pool.active + row * layer.units + unit), slope = all(pool.slopes[row]);
      const Floats back = active > nothing ? slope * out : nothing;
      store(pool.back + row * layer.units + unit, back);
      of_bias += back;
      of_out = fused(slope, active, of_out);
    }
    store(pool.gradient + layer.features * layer.units + unit, of_bias);
    store(pool.gradient + (layer.features + 1) * layer.units + unit, of_out);
    std::size_t f = 0;
    for (; f + kInputsAtOnce <= layer.features; f += kInputsAtOnce) collect_some<kInputsAtOnce>(layer, pool, f, unit);
    for (; f < layer.features; ++f) collect_some<1>(layer, pool, f, unit);
  }
}

constexpr Kernel kKernel = {kLanes, &forward, &backward};
