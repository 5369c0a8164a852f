"""One training: optimizer, sharded step, checkpoints, evaluation and the loop.

Other rooms read `averaging` (abstract_averaged, apart, averaged, compile_average, judged_params,
with_average), `begin` (compile_begin, given_part), `config` (CheckpointConfig, EvaluationConfig,
LoggingConfig, OptimizerConfig, OptimizerKind, Profile, StepShape, TrainingConfig), `evaluate`
(CosineProgram, EvaluationProgram, HeldOut, compile_evaluation, compile_gradient_cosine, evaluate,
evaluation_shape, lower_evaluation, lower_gradient_cosine, place_held_out, row_losses), `gradient`
(DROPOUT_KEYS, DeviceBatch, dropout_keys), `loop` (Tracer, step_record, train_span), `metrics`
(Meter, Progress, StepRecord, TIME_KINDS, TimeSplit, Work), `numerics` (NUMERICS), `optimizer`
(Hyper, hyperparameters), `population` (Population, compile_population, lower_population), `span`
(Hooks, Programs, Span), `step` (StepMetrics, StepProgram, StepShape, TrainState, abstract_state,
check_shape, compile_init, compile_reset, compile_train_step, lower_train_step, on_mesh,
place_batch, place_hyper, platform_of), `trainable` (as_base, joined, merged, of_training, split).
"""
